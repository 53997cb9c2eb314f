// What a training run starts from: the model, its tokenizer, and the texts in their order.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdh/pretrained/model.h"
#include "bdh/train/checkpoint.h"
#include "bdh/train/data.h"
#include "tools/training/options.h"

namespace bdh::tools {

struct StartModel {
  Config config;
  TensorMap weights;  // state_dict; with --lora the adapter's matrices
  TensorMap base;     // with --lora: the model's own weights, float32
  std::shared_ptr<const Tokenizer> tokenizer;
  TokenizerSource tokenizer_source;
  std::string source = "new";  // or the model that --from names
  std::vector<std::string> warnings;
};

/// The checkpoint's model, where a run goes on; else that of --from, or a new one. Throws Error naming file
/// and remedy.
StartModel start_model(const TrainSettings& settings, const Checkpoint* resumed);

struct TrainingText {
  std::unique_ptr<BatchOrder> order;
  TokenData validation;  // empty: none
  std::string hash;      // of what is trained on; "": not known
  int64_t tokens = 0;    // there are, to train on
  std::vector<std::string> warnings;
};

/// Reads --data and --valid, or --batches, whose sizes and steps settings.train receives. cache: of tokens.
/// progress: bytes of text done and in all; false stops. Throws Error.
TrainingText training_text(TrainSettings& settings, const StartModel& model,
                           const std::filesystem::path& cache,
                           const std::function<bool(uint64_t done, uint64_t total)>& progress);

/// Names of what is trained on, for the card: "shakespeare.txt, plays".
std::string dataset_name(const RunOptions& run);

}  // namespace bdh::tools
