// ModelSaver: what training leaves for everyone else, a complete model directory with its story.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bdh/pretrained/model.h"
#include "bdh/train/checkpoint.h"
#include "bdh/train/trainer.h"

namespace bdh {

/// What is known of the run; what is empty is left out.
struct TrainingFacts {
  TrainResult result;
  std::string version;          // "v1.0", or "v1.0.1"
  std::string dataset;          // names of what it was trained on
  std::string hardware;         // "cpu, avx512, 2 threads"
  std::string command;          // that makes it again
  std::filesystem::path curve;  // a picture, copied beside the card as training.svg
  std::string name;             // the card's title; by default the directory's name
};

/// Writes directory: config.json, weights (checkpoint.weights, or its EMA), tokenizer, generation_config.json
/// (with the horizon it was trained with), training_args.json (the run's options, and block_size),
/// training_metadata.json (what was measured up to the checkpoint), metadata.json and the card's training
/// section. Replaces what stands there. Returns warnings. Throws as Model::save_pretrained, and
/// Error(invalid_argument) for another version, and for a checkpoint without the average that is asked for.
class ModelSaver {
 public:
  /// options: of every model that is saved; what this class writes itself goes before.
  ModelSaver(std::shared_ptr<const Tokenizer> tokenizer, TokenizerSource tokenizer_source,
             SaveOptions options);
  std::vector<std::string> save(const std::filesystem::path& directory, const Checkpoint& checkpoint,
                                bool ema, const TrainingFacts& facts) const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenizerSource source_;
  SaveOptions options_;
};

}  // namespace bdh
