// Adapters of any kind.
#pragma once

#include <filesystem>

#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

/// load_peft_adapter of a directory, load_head_adapter of anything else. Throws as they do.
LoraAdapter load_adapter(const std::filesystem::path& path, const Config& config);

}  // namespace bdh
