// A session on disk or in memory: safetensors, with what was read and of which model.
//
// Tensors: state (L, H, N, D), held, and of the kept tokens begin, neuron, r and x (SavedState), and unread
// (int32); those without elements are left out. Metadata: position, base, model, dtype, horizon, and of a
// generated text seed and step (Continuation). Files of earlier versions have the state and the position
// alone.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/model/session.h"

namespace bdh {

/// Whole or not at all. Throws Error(io).
FileIdentity write_session(const std::filesystem::path& path, const SavedSession& saved);
std::vector<std::byte> session_bytes(const SavedSession& saved);

/// The tensors are mapped, not read; in a buffer they are copied. `name` stands for the buffer in errors.
/// Throws Error(bad_file) for a file that holds no session. What is in the tensors is checked where they are
/// restored.
SavedSession read_session(const std::filesystem::path& path);
SavedSession read_session(std::span<const std::byte> bytes, const std::string& name);

}  // namespace bdh
