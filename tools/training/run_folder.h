// The folder of a training run: where what lies in it, that one process at a time uses it, and its STOP file.
#pragma once

#include <chrono>
#include <filesystem>
#include <utility>

namespace bdh::tools {

class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Makes the folder, and keeps other runs out of it. Throws Error(invalid_argument) where one trains there,
  /// Error(io).
  void lock();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path options() const { return path_ / "options.json"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path events() const { return path_ / "events"; }
  std::filesystem::path curve() const { return path_ / "training.svg"; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path cache() const { return path_ / "cache"; }
  /// Model directories.
  std::filesystem::path final() const { return path_ / "final"; }
  std::filesystem::path best() const { return path_ / "best"; }
  std::filesystem::path ema() const { return path_ / "ema"; }
  /// Of --lora: in the place of final() the model with the adapter merged in, and adapters as PEFT has them.
  std::filesystem::path merged() const { return path_ / "final_merged"; }
  std::filesystem::path adapter() const { return path_ / "adapter_checkpoint"; }
  std::filesystem::path best_adapter() const { return path_ / "best_adapter"; }
  std::filesystem::path ema_adapter() const { return path_ / "ema_adapter"; }
  std::filesystem::path metadata() const { return path_ / "metadata.json"; }

  /// True once a file STOP stands in it; looks at most ten times a second.
  bool asked_to_stop();
  /// Removes the STOP file: it has been heeded.
  void remove_stop();

 private:
  std::filesystem::path path_;
  int lock_ = -1;
  bool stop_ = false;
  std::chrono::steady_clock::time_point looked_{};
};

}  // namespace bdh::tools
