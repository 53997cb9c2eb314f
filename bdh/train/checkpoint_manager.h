// CheckpointManager: the checkpoints of one run in one folder; written while training goes on, and cleaned
// up.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdh/train/checkpoint.h"

namespace bdh {

struct CheckpointLimits {
  int64_t total = 3;  // checkpoint_step_N and checkpoint_epoch_N that are kept; 0: all
  int64_t top = 1;    // of them, those with the best metric; the rest are the newest
  bool greater_is_better = false;
};

/// Which names a checkpoint gets, beside checkpoint_latest.
struct CheckpointNames {
  bool step = false;             // checkpoint_step_N
  bool epoch = false;            // checkpoint_epoch_N
  std::string best;              // the metric's name: checkpoint_best_<metric>; "": not the best
  std::optional<double> metric;  // its value, for `top`
};

struct CheckpointEntry {
  std::string name;            // "checkpoint_step_100"
  std::filesystem::path file;  // .safetensors
  RunState state;
  std::optional<double> metric;
  uint64_t bytes = 0;   // of the file
  std::string problem;  // why it cannot be read; "" where it can
};

class CheckpointManager {
 public:
  /// Makes the folder; removes what a killed write left.
  CheckpointManager(std::filesystem::path folder, CheckpointLimits limits);
  /// Waits for the last write.
  ~CheckpointManager();

  /// Takes the checkpoint over and writes it in the background, after any that is still being written (waits
  /// for that one first, so that at most one is in memory), under every name that `names` says and
  /// checkpoint_latest last. One content has one file: other names are hard links to it, or copies where the
  /// file system has none. Then cleans up: never a best one nor checkpoint_latest, and so that no more than
  /// max(total, 2) contents stay on disk. What goes wrong is told by problems() or wait(), and the old
  /// checkpoints are still there. Throws Error(invalid_argument) for a metric that cannot be part of a name.
  void save(Checkpoint checkpoint, const CheckpointNames& names);
  /// Waits until all is written. Returns what went wrong since it was last asked, a line each.
  std::vector<std::string> wait();
  /// The same without waiting.
  std::vector<std::string> problems();

  /// See latest_checkpoint and best_checkpoint.
  std::optional<std::filesystem::path> latest(std::vector<std::string>* warnings = nullptr) const;
  std::optional<std::filesystem::path> best() const;

 private:
  struct Writer;
  std::unique_ptr<Writer> writer_;
};

/// Every checkpoint in a folder, by step, those that cannot be read last. verify: reads the tensors and
/// compares hashes; otherwise headers alone are read.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& folder, bool verify = false);

/// checkpoint_latest; where that is missing or damaged, the newest that is whole, and a warning says so.
/// Reads all of it. Nothing: no checkpoint there is whole.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& folder,
                                                       std::vector<std::string>* warnings = nullptr);

/// checkpoint_best_<metric>, of several metrics the newest, whose header is whole.
std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& folder);

}  // namespace bdh
