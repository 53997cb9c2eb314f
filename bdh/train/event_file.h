// Event files, which TensorBoard reads: https://github.com/tensorflow/tensorboard. A file is a row of
// records: u64 length, its checksum, an `Event` in protobuf's encoding, its checksum.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "bdh/base/file.h"
#include "bdh/train/trainer.h"

namespace bdh {

/// The records that a file is made of. wall_time: seconds since 1970.
std::string version_record(double wall_time);
/// The beginning of a session whose first step is `step`: events of that step and later that were read before
/// count no more.
std::string session_record(double wall_time, int64_t step);
/// Scalars train/loss, train/lr, train/grad_norm, train/tokens_per_second, and where there are any
/// valid/loss, valid/bits_per_byte, valid/ema_loss and the text `sample`.
std::string metrics_record(double wall_time, const StepMetrics& metrics);

class EventFile {
 public:
  /// A new file in the folder, which is made; TensorBoard reads it after those that are there, and forgets
  /// their events after `step`, from which the run goes on. Throws Error(io).
  EventFile(const std::filesystem::path& folder, int64_t step);
  /// Throws Error(io).
  void add(const StepMetrics& metrics);

 private:
  AppendFile file_;
};

}  // namespace bdh
