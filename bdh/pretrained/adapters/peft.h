// Adapters in the directories that PEFT saves: adapter_config.json, and adapter_model.safetensors or .bin.
#pragma once

#include <filesystem>

#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

/// The adapter of a model of that config, as PEFT has wrapped our transformers model's modules: LoRA of
/// encoder, encoder_v, decoder and lm_head by target_parameters, of embed by either; rsLoRA too. Throws
/// Error(unsupported) naming a key of adapter_config.json that makes it another function (DoRA, ranks by
/// pattern, ...), Error(bad_file) naming a tensor that is missing, has another shape or belongs to nothing,
/// Error(not_found), Error(io).
LoraAdapter load_peft_adapter(const std::filesystem::path& directory, const Config& config);

}  // namespace bdh
