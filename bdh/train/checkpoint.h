// A checkpoint: all that a run needs to go on to the same bits, as NAME.safetensors and NAME.meta.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/base/tensor.h"
#include "bdh/model/config.h"

namespace bdh {

/// Where a run stands, beside its tensors. `step` steps are done; the next is number `step`.
struct RunState {
  int64_t step = 0;
  int64_t epoch = 0;           // whole epochs done
  int64_t optimizer_step = 0;  // updates made: steps without those that were skipped
  int64_t ema_step = 0;        // updates of the average
  int64_t tokens = 0;          // trained on
  double seconds = 0;          // of training, all sessions of the run together
  uint64_t seed = 0;       // all random numbers are functions of it and of counters: there is no other state
  double loss_scale = 1;   // of float16
  int64_t good_steps = 0;  // since the loss scale last changed
  std::string data_hash, validation_hash, tokenizer_hash, order_hash;
  std::string base_hash;       // of the weights that an adapter is trained for; empty: no adapter
  std::optional<double> best;  // value of the metric
  int64_t best_step = 0;
  int64_t stale_validations = 0;  // without a better one: patience
  Json statistics;                // of loss and norm, for outliers; the loop's own
  Json history;                   // array of {"step", "valid_loss", ...}: every validation
  Json schedule;                  // as options have it
  Json options;                   // TrainOptions::to_json
  Json config;                    // Config::to_json
  int64_t carried_position = -1;  // of carried states; -1: none
  std::string started;            // UTC
  std::string source;             // "new", or the model that --from named

  Json to_json() const;
  /// Throws Error(bad_file) naming `source`, key and remedy. Hostile input.
  static RunState from_json(const Json& json, std::string_view source);
};

struct Checkpoint {
  RunState state;
  /// float32 masters, state_dict names, attn.freqs too; where an adapter is trained its matrices (lora.h).
  TensorMap weights;
  TensorMap exp_avg, exp_avg_sq;  // AdamW's moments by the same names
  TensorMap ema;                  // empty: none
  TensorMap carried;              // "0", "1", .. by micro-batch: S (L, B, H, N, D); empty: none
  std::optional<double> metric;   // the value of the run's metric for these weights, where it was measured
};

/// Writes NAME.safetensors, atomically, which holds everything, then NAME.meta.json beside it: the same but
/// the tensors, for people and scripts. Tensor names: NAME, "exp_avg.NAME", "exp_avg_sq.NAME", "ema.NAME",
/// "carried.I". __metadata__: "bdh.run" (the state as JSON), "bdh.metric", SHA-256 of these two under
/// "bdh.run_sha256" and of the tensors (hash_of) under "bdh.tensors_sha256", versions. Copies no tensor.
/// Throws Error(io); what stood there before stays. Error(invalid_argument) for tensors that read_checkpoint
/// would not take.
void write_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint);

/// Reads one whole: its tensors are mapped and compared with their hash. A .meta.json that is missing, or
/// that a crash left behind its tensors, is of no matter. Throws Error(not_found), Error(bad_file) naming
/// what is damaged, Error(unsupported) for a later version's.
Checkpoint read_checkpoint(const std::filesystem::path& file);

/// What the header says.
struct CheckpointHeader {
  RunState state;
  std::optional<double> metric;
};
/// From the header alone, compared with its hash. Throws as read_checkpoint.
CheckpointHeader read_checkpoint_header(const std::filesystem::path& file);
/// The state alone, from the header.
RunState read_run_state(const std::filesystem::path& file);

/// NAME.meta.json of NAME.safetensors.
std::filesystem::path meta_file_of(const std::filesystem::path& file);
/// Writes it from the header of the file, unless it says the same already. Throws as read_checkpoint,
/// Error(io).
void update_meta_file(const std::filesystem::path& file);

}  // namespace bdh
