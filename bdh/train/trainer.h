// Trainer: the training loop. Computes on a backend, reads data, keeps checkpoints; prints nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdh/model/config.h"
#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/data.h"
#include "bdh/train/options.h"
#include "bdh/train/ranks.h"
#include "kernels/backend.h"

namespace bdh {

/// One step, as metrics.jsonl has it.
struct StepMetrics {
  int64_t step = 0;  // from 1: steps done with it
  double loss = 0;   // nats per token, before the update
  double rate = 0;
  double gradient_norm = 0;  // before clipping
  double tokens_per_second = 0;
  int64_t tokens = 0;  // in all
  int64_t epoch = 0;
  bool skipped = false;  // an outlier, or an overflow of float16
  double loss_scale = 1;
  std::optional<double> valid_loss, valid_bits_per_byte, ema_valid_loss;
  std::optional<std::string> sample;  // text
};

enum class StopReason : uint8_t { done, patience, asked };

struct TrainResult {
  StopReason reason = StopReason::done;
  int64_t step = 0;
  std::optional<double> valid_loss, ema_valid_loss, best;
  int64_t best_step = 0;
  double seconds = 0;
  int64_t tokens = 0;
  double last_loss = 0;
};

struct TrainerCallbacks {
  std::function<void(const StepMetrics&)> step;                 // rank 0, after each step
  std::function<void(int64_t done, int64_t total)> validating;  // tokens
  std::function<bool()> stop;                    // asked between micro-batches and blocks of validation
  std::function<void(const std::string&)> warn;  // one line
  std::function<std::string(const TensorMap& weights)> sample;  // makes StepMetrics::sample; adapters merged
};

/// A run: model, optimizer, order of data, checkpoints. The same options, seed and data give the same bits,
/// whatever the number of threads, ranks and interruptions.
class Trainer {
 public:
  struct Inputs {
    Config config;
    TensorMap weights;  // what it starts from: state_dict names; see initial_weights, initial_lora
    TensorMap base;     // weights that an adapter is trained for; empty: all weights are trained
    std::unique_ptr<BatchOrder> order;
    TokenData validation;   // empty: no validation
    std::string data_hash;  // TokenData::hash of what the order reads; empty: not known
    std::string tokenizer_hash;
    std::string source = "new";
    std::filesystem::path checkpoints;  // folder; empty: none are kept
  };
  /// Several ranks have the same options and inputs. Throws Error(invalid_argument) for options that make no
  /// sense, and where the ranks do not divide the micro-batches of a step.
  Trainer(std::shared_ptr<Backend> backend, TrainOptions options, Inputs inputs, Ranks& ranks);
  ~Trainer();

  /// Goes on where the checkpoint stands, on every rank. Throws Error(invalid_argument) saying what differs
  /// where it is of another data set, tokenizer, config or seed, or has other options that decide the
  /// function (allow_changed_data: data set and tokenizer may differ, and warnings say so). Warnings name the
  /// other options that differ.
  void resume(const Checkpoint& checkpoint, bool allow_changed_data, std::vector<std::string>* warnings);

  /// Trains until the last step, or until it is stopped; then all is saved. A step or a validation that is
  /// interrupted is done again by the run that goes on. Throws Error(bad_file) naming the last good
  /// checkpoint where loss or gradient are not finite any more, Error(io) where the last checkpoint cannot be
  /// written or another rank failed.
  TrainResult run(const TrainerCallbacks& callbacks);

  /// Where it stands now. Of several ranks all call it, and rank 0 has the optimizer's part and all carried
  /// states.
  Checkpoint checkpoint() const;
  const RunState& state() const;

 private:
  struct Run;
  std::unique_ptr<Run> run_;
};

/// Weights of a new model as the authors start it: normal(0, 0.02), each number a function of seed, name and
/// index; attn.freqs from the formula.
TensorMap initial_weights(const Config& config, uint64_t seed);

}  // namespace bdh
