// TrainOptions: everything that decides what a training run computes and writes. Kept with the run as JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/train/lora.h"
#include "bdh/train/schedule.h"
#include "kernels/training.h"

namespace bdh {

/// The defaults are the authors' recipe at a constant rate.
struct TrainOptions {
  // a step
  int64_t steps = 3000;
  int64_t batch = 32;      // sequences of a micro-batch
  int64_t block = 512;     // tokens of a sequence
  int64_t accumulate = 1;  // micro-batches of a step
  uint64_t seed = 0;
  DType dtype = DType::f32;  // what weights and activations are rounded to: f32, bf16, f16
  TrainingForm form = TrainingForm::automatic;
  int64_t chunk = 0;              // 0: what suits the backend
  std::optional<double> dropout;  // by default the config's
  std::vector<float> horizon;     // SessionOptions::horizon
  bool carry_state = false;       // consecutive blocks, the state carried over

  // the optimizer
  ScheduleOptions schedule;  // rate, warm-up, shape
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.1;
  std::vector<std::string> no_decay;  // parameters without weight decay: "embed.weight", "lm_head", ...
  double clip = 0;                    // the most the gradient's norm may be; 0: no limit
  double skip_outliers = 0;           // z-score of loss or norm past which a step is skipped; 0: none is
  double ema = 0;                     // decay of the average of the weights; 0: none is kept

  LoraOptions lora;  // what is trained in the place of the weights

  // validation
  double validation_share = 0.1;  // of the text, its end, where there is no file for it
  int64_t valid_every = 0;        // steps; 0: at the end alone
  int64_t valid_tokens = 0;       // at most so many; 0: all
  std::string metric =
      "valid_loss";  // what best means: valid_loss, valid_bits_per_byte, loss, or ema_valid_loss
  bool greater_is_better = false;
  int64_t patience = 0;      // validations without a better one before training stops; 0: never
  int64_t sample_every = 0;  // steps between samples of text; 0: none
  std::string sample_prompt;
  int64_t sample_tokens = 100;

  // checkpoints
  int64_t checkpoint_every = 0;   // steps between checkpoint_step_N; 0: none
  int64_t checkpoint_epochs = 0;  // epochs between checkpoint_epoch_N; 0: none
  int64_t latest_every = 100;     // steps between checkpoint_latest; 0: as often as checkpoint_every
  int64_t save_total_limit = 3;   // checkpoints kept, beside the best and the last; 0: all
  int64_t save_top = 1;           // of them by metric

  /// Every field by its flag's name ("valid_every"), in this order.
  Json to_json() const;
  /// Sets the fields that the object has. Throws Error(bad_file) naming a key that is unknown or a value that
  /// makes no sense; `source` is the file.
  void set(const Json& json, std::string_view source);
  /// Throws Error(invalid_argument) naming the option.
  void validate() const;
};

/// What a metric may be called.
inline constexpr std::string_view kMetrics[] = {"valid_loss", "valid_bits_per_byte", "ema_valid_loss",
                                                "loss"};

template <class Value>
using OptionPlace = Value& (*)(TrainOptions&);

/// A field of TrainOptions: a row of the table from which JSON, checks and the command's flags are made.
struct TrainOption {
  std::string_view name;  // in JSON; the flag of valid_every is --valid-every
  std::variant<OptionPlace<int64_t>, OptionPlace<uint64_t>, OptionPlace<double>, OptionPlace<bool>,
               OptionPlace<std::string>, OptionPlace<std::optional<double>>, OptionPlace<std::vector<float>>,
               OptionPlace<std::vector<std::string>>, OptionPlace<DType>, OptionPlace<TrainingForm>,
               OptionPlace<ScheduleShape>>
      place;
  double low, high;   // what a number may be
  const char* rule;   // in words: what any value may be
  bool fixed;         // a run that goes on keeps it: another value is another run
  const char* group;  // the heading in --help
  const char* help;   // of the flag

  bool is_switch() const { return std::holds_alternative<OptionPlace<bool>>(place); }
  /// What the text of a flag means: "3" for a number, "a,b" for a list, "true" for a switch. Throws
  /// Error(invalid_argument) naming the rule.
  Json parse(std::string_view text) const;
};

/// In the order of --help.
std::span<const TrainOption> train_options();

}  // namespace bdh
