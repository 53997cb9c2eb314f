// Adapters in the directories that PEFT saves: adapter_config.json, and adapter_model.safetensors or .bin.
#pragma once

#include <filesystem>
#include <string>

#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

/// The adapter of a model of that config, as PEFT has wrapped our transformers model's modules: LoRA of
/// encoder, encoder_v, decoder and lm_head by target_parameters, of embed by either; rsLoRA too. Throws
/// Error(unsupported) naming a key of adapter_config.json that makes it another function (DoRA, ranks by
/// pattern, ...), Error(bad_file) naming a tensor that is missing, has another shape or belongs to nothing,
/// Error(not_found), Error(io).
LoraAdapter load_peft_adapter(const std::filesystem::path& directory, const Config& config);

/// What adapter_config.json says of an adapter that is saved, beside the parameters that it changes.
struct PeftFacts {
  std::string base_model;  // the model's directory
  int64_t rank = 0;        // every update's
  double alpha = 0;
  bool rslora = false;
};

/// Writes what PEFT's save_pretrained writes, adapter_config.json last, for our transformers model of that
/// config. What stands there is replaced: killed meanwhile, it leaves the old adapter, or none. Throws
/// Error(io).
void save_peft_adapter(const std::filesystem::path& directory, const LoraAdapter& adapter,
                       const Config& config, const PeftFacts& facts);

}  // namespace bdh
