// Training runs of tests: a small model on a small text, that may be stopped, resumed and told apart.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdh/train/trainer.h"

namespace bdh::test {

/// What a run is made of; each make() is a process of its own.
struct RunSetup {
  RunSetup();

  Config config;  // L 1, D 8, H 2, N 16, V 19
  TrainOptions options;
  TensorMap weights;  // by default those of the seed, or its matrices with options.lora
  TensorMap base;     // of an adapter, by default the seed's
  std::vector<int32_t> text, validation;
  std::filesystem::path checkpoints;
  std::function<std::unique_ptr<BatchOrder>(const RunSetup&)> order;  // by default as options say

  std::unique_ptr<Trainer> make(Ranks& ranks) const;
  std::unique_ptr<Trainer> make() const;  // one rank
};

/// What is told of a run, and when it is to stop.
struct RunLog {
  std::vector<StepMetrics> steps;
  std::vector<std::string> warnings;
  int64_t questions = 0;  // whether to stop, so far
  int64_t stop_at = -1;   // the question that is answered with yes; -1: none
  TrainerCallbacks callbacks();
};

/// Everything but the time it took.
bool same_end(const Checkpoint& a, const Checkpoint& b);

}  // namespace bdh::test
