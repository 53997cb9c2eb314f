// An example: train a small model on a text, keep checkpoints, go on from the last one, save the model.
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/data.h"
#include "bdh/train/model_saver.h"
#include "bdh/train/trainer.h"
#include "kernels/backends.h"

namespace {

bdh::TrainOptions options() {
  bdh::TrainOptions options;
  options.steps = 20;
  options.batch = 4;
  options.block = 64;
  options.valid_every = 10;
  options.valid_tokens = 2048;
  options.checkpoint_every = 10;
  return options;
}

bdh::Config config() {
  bdh::Config config;
  config.n_layer = 2;
  config.n_embd = 32;
  config.mlp_internal_dim_multiplier = 16;
  return config;
}

void train(const std::string& text, const std::filesystem::path& out) {
  const auto tokenizer = std::make_shared<bdh::ByteTokenizer>();
  const bdh::TrainOptions train = options();
  bdh::DataOptions data;
  data.paths = {text};
  const bdh::TokenData tokens = bdh::load_tokens(data, *tokenizer, config().vocab_size);
  const bdh::DataSplit split = bdh::split_tokens(tokens, train.validation_share, train.block);

  bdh::Trainer::Inputs inputs;
  inputs.config = config();
  inputs.weights = bdh::initial_weights(inputs.config, train.seed);
  inputs.order = bdh::shuffled_blocks(split.train, train.block, train.batch, train.accumulate, train.seed);
  inputs.validation = split.validation;
  inputs.data_hash = split.train.hash();
  inputs.tokenizer_hash = bdh::tokenizer_hash(*tokenizer);
  inputs.checkpoints = out / "checkpoints";
  const auto ranks = bdh::single_rank();
  bdh::Trainer trainer(bdh::make_backend("auto", 0), train, std::move(inputs), *ranks);

  if (const auto latest = bdh::CheckpointManager(out / "checkpoints", {}).latest())
    trainer.resume(bdh::read_checkpoint(*latest), false, nullptr);
  std::cout << "from step " << trainer.state().step << "\n";

  bdh::TrainerCallbacks callbacks;
  callbacks.step = [](const bdh::StepMetrics& metrics) {
    std::cout << "step " << metrics.step << ", loss " << metrics.loss;
    if (metrics.valid_loss) std::cout << ", validation " << *metrics.valid_loss;
    std::cout << "\n";
  };
  const bdh::TrainResult result = trainer.run(callbacks);

  bdh::TrainingFacts facts;
  facts.result = result;
  const bdh::ModelSaver saver(tokenizer, {.files = {}, .kind = bdh::kBytesKind, .unread = ""}, {});
  saver.save(out / "final", trainer.checkpoint(), false, facts);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: train TEXT OUT\n";
    return 2;
  }
  try {
    train(argv[1], argv[2]);
    return std::cout ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "train: " << error.what() << "\n";
    return 1;
  }
}
