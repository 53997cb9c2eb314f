// The models that are benchmarked: a new one of the default size and the trained demo. Made when first used,
// then kept. Knows the library's public side; nothing of timing.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bdh/model/session.h"

namespace bdh::bench {

/// A model's parameters and a text to read with it.
struct Source {
  std::string name;
  Config config;
  TensorMap state_dict;
  std::vector<int32_t> text;
};

/// Normal(0, 0.02) parameters at the authors' default size, and uniformly random tokens.
std::shared_ptr<const Source> random_source();

/// A trained model, and a text that it wrote itself: activity is as sparse as in use.
std::shared_ptr<const Source> trained_source(const std::filesystem::path& directory);

/// A source, run as some dtype on so many threads.
class Subject {
 public:
  Subject(std::shared_ptr<const Source> source, DType dtype, int threads);

  const Source& source() const { return *source_; }
  const std::shared_ptr<const Weights>& weights();
  /// Tokens [position, position + count) of the text, which starts again at its end.
  std::vector<int32_t> tokens(int64_t position, int64_t count) const;
  /// Sessions that have read `position` tokens at least. The same ones at every call: reading moves them on.
  std::vector<Session*> sessions(int64_t position, int64_t count);

 private:
  std::shared_ptr<const Source> source_;
  DType dtype_;
  int threads_;
  std::shared_ptr<const Weights> weights_;
  std::map<int64_t, std::vector<std::unique_ptr<Session>>> sessions_;
};

}  // namespace bdh::bench
