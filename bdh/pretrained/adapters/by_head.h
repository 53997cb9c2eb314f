// Adapters as BDH's users write them by hand: a dictionary with matrices for every head.
#pragma once

#include <filesystem>

#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

/// The adapter in one file, PyTorch's or .safetensors: for each parameter P of a state_dict that it changes
/// "P.lora_A", "P.lora_B" and "P.scaling", in PyTorch's file also as {P: {lora_A, lora_B, scaling}}. P +=
/// scaling lora_A lora_B, where the matrices are (H, rows, r) and (H, r, columns) for encoder and encoder_v,
/// and have no H for the others. Throws Error(bad_file) naming a key that is missing, belongs to nothing or
/// has another shape, Error(unsupported) naming one that would make it another function, Error(not_found),
/// Error(io).
LoraAdapter load_head_adapter(const std::filesystem::path& file, const Config& config);

}  // namespace bdh
