// Weights files without a model around them: what is in them, and from one form to another.
#pragma once

#include <filesystem>

#include "bdh/pretrained/weight_files.h"
#include "bdh/pretrained/weight_writer.h"

namespace bdh {

/// Writes the tensors as one file: safetensors when its name ends in .safetensors, else PyTorch's. Names and
/// layouts become the reference's (import_tensors); attn.freqs is derived where it is missing. Atomic.
/// Throws as the files' readers and writers; Error(cancelled).
void convert_weights(const WeightFiles& from, const std::filesystem::path& to, WeightForm form = {},
                     const ByteProgress& progress = {});

/// A PyTorch file as a safetensors file: convert_weights without options.
void convert_torch_to_safetensors(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace bdh
