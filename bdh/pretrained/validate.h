// Validation: everything that can be wrong with a model directory, looked at one thing after the other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace bdh {

enum class Verdict : uint8_t { passed, warned, failed, skipped };
/// "passed", "warned", "failed", "skipped".
std::string_view name_of(Verdict verdict);

/// One thing that was looked at.
struct Check {
  std::string name;  // files, config, weights, tensors, values, hashes, tokenizer, settings, generation
  Verdict verdict = Verdict::skipped;
  std::string detail;  // what was found: a sentence
};

struct ValidateOptions {
  std::string device = "auto";
  int threads = 0;  // CPU threads; 0: the cores
  /// After each check.
  std::function<void(const Check&)> on_check;
  /// While the weights' values are looked at: bytes done and in all. Returning false stops with
  /// Error(cancelled).
  std::function<bool(uint64_t done, uint64_t total)> progress;
};

/// Checks that the files are there, config.json, the weights files' headers, every tensor against the config,
/// every number for NaN and infinity, the hashes in metadata.json, the tokenizer against the vocabulary, the
/// other JSON files, and a short generation. What depends on something that failed is skipped.
/// Throws Error(cancelled) only.
std::vector<Check> validate(const std::filesystem::path& directory, const ValidateOptions& options = {});

}  // namespace bdh
