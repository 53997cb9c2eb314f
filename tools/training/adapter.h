// What a run with --lora leaves: the adapter, the model with it merged in, and metadata.json beside them.
#pragma once

#include <filesystem>
#include <string>

#include "bdh/train/trainer.h"
#include "tools/training/inputs.h"
#include "tools/training/options.h"

namespace bdh::tools {

/// The checkpoint with the adapter merged into the base's weights, its average too; of a run without --lora
/// as it is.
Checkpoint with_merged_weights(Checkpoint checkpoint, const StartModel& model, const LoraOptions& lora);

/// PEFT's directory. average: in the place of the last matrices. Throws Error(io).
void write_adapter(const std::filesystem::path& directory, const TrainSettings& settings,
                   const StartModel& model, const Checkpoint& checkpoint, bool average);

/// The base, the data, the options and what came of it. Throws Error(io).
void write_adapter_metadata(const std::filesystem::path& file, const TrainSettings& settings,
                            const StartModel& model, const TrainResult& result);

}  // namespace bdh::tools
