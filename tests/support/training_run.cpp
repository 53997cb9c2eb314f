// Setting up training runs, and what they left.
#include "tests/support/training_run.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>

#include "bdh/formats/safetensors.h"

namespace bdh::test {
namespace {

constexpr const char* kConfig =
    R"({"n_layer": 2, "n_embd": 16, "dropout": 0.1, "n_head": 2, "mlp_internal_dim_multiplier": 4, "vocab_size": 256})";

}  // namespace

TrainingRun::TrainingRun() {
  directory_.write("text.txt", training_text(6000));
  directory_.write("config.json", kConfig);
}

std::vector<std::string> TrainingRun::arguments(const std::string& out,
                                                const std::vector<std::string>& more) const {
  const std::vector<std::string> given{"train", "--out", (directory_ / out).string(), "--threads", "2"};
  std::vector<std::string> defaults;
  for (const auto& [flag, value] :
       std::vector<std::pair<std::string, std::string>>{{"--data", text()},
                                                        {"--config", config()},
                                                        {"--steps", "24"},
                                                        {"--batch", "2"},
                                                        {"--block", "16"},
                                                        {"--accumulate", "2"},
                                                        {"--seed", "3"},
                                                        {"--valid-every", "6"},
                                                        {"--valid-tokens", "128"},
                                                        {"--checkpoint-every", "4"}}) {
    if (std::find(more.begin(), more.end(), flag) != more.end()) continue;
    defaults.push_back(flag);
    defaults.push_back(value);
  }
  return joined(joined(given, defaults), more);
}

CommandResult TrainingRun::train(const std::string& out, const std::vector<std::string>& more) const {
  return run_command(arguments(out, more));
}

CommandResult TrainingRun::resume(const std::string& out, const std::vector<std::string>& more) const {
  return train(out, joined({"--resume"}, more));
}

std::string training_text(size_t bytes) {
  std::string text;
  for (size_t i = 0; text.size() < bytes; ++i)
    text += static_cast<char>(i % 17 == 16 ? '\n' : 'a' + (i * i + i / 5) % 23);
  return text;
}

std::vector<Json> metrics_of(const std::filesystem::path& out) {
  std::vector<Json> lines;
  std::istringstream text(read_file(out / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    Json kept = Json::Object{};
    const Json step = Json::parse(line, "metrics.jsonl");
    for (const auto& [key, value] : step.as_object())
      if (key != "tokens_per_second") kept.set(key, value);
    lines.push_back(kept);
  }
  return lines;
}

void wait_for_steps(const std::filesystem::path& out) {
  const std::filesystem::path file = out / "metrics.jsonl";
  constexpr int kLooks = 60'000;
  int looks = 0;
  while (!std::filesystem::exists(file) || std::filesystem::file_size(file) < 1000) {
    REQUIRE(++looks < kLooks);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::string tensors_of(const std::filesystem::path& model) {
  const std::filesystem::path file = model / "model.safetensors";
  return read_file(file).substr(SafetensorsFile::open(file).data_offset());
}

}  // namespace bdh::test
