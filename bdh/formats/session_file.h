// A session's state on disk: safetensors with the tensor `state` (L, H, N, D) float32 and, in its metadata,
// the position.
#pragma once

#include <cstdint>
#include <filesystem>

#include "bdh/base/tensor.h"

namespace bdh {

struct SavedState {
  Tensor s;
  int64_t position = 0;  // tokens read
};

/// Whole or not at all. Throws Error(io).
void write_session(const std::filesystem::path& path, const SavedState& saved);

/// The tensor is mapped, not read. Throws Error(bad_file) for a file that holds no session.
SavedState read_session(const std::filesystem::path& path);

}  // namespace bdh
