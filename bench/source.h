// The models that are benchmarked: a new one of some size and a trained one; run on some backend, with
// sessions that have read so many tokens. Made when first used, then kept.
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

/// Normal(0, 0.02) parameters, and uniformly random tokens.
std::shared_ptr<const Source> random_source(const Config& config, const std::string& name);

/// A trained model, and a text that it wrote itself on that backend: activity is as sparse as in use. Throws
/// as Model::from_pretrained.
std::shared_ptr<const Source> trained_source(const std::filesystem::path& directory,
                                             const std::shared_ptr<Backend>& backend);

/// "f32", "bf16", "f16", "int8" (i8) or "int4" (u8): a dtype as the command line and the tables have it.
std::string option_name(DType dtype);

/// A source, run as some dtype on a backend: quantized as i8 (8 bits) and u8 (4 bits).
class Subject {
 public:
  using MakeBackend = std::function<std::shared_ptr<Backend>()>;

  Subject(std::shared_ptr<const Source> source, DType dtype, MakeBackend backend, int64_t chunk = 256,
          DType state = DType::f32)
      : source_(std::move(source)),
        dtype_(dtype),
        make_backend_(std::move(backend)),
        chunk_(chunk),
        state_(state) {}

  const Source& source() const { return *source_; }
  DType state() const { return state_; }
  const std::shared_ptr<const Source>& shared_source() const { return source_; }
  const std::shared_ptr<const Weights>& weights();
  /// Tokens [position, position + count) of the text, which starts again at its end.
  std::vector<int32_t> tokens(int64_t position, int64_t count) const;
  /// Sessions that have read `position` tokens at least. The same ones at every call: reading moves them on.
  std::vector<Session*> sessions(int64_t position, int64_t count);
  /// Gives the sessions' memory back.
  void forget_sessions() { sessions_.clear(); }

 private:
  std::shared_ptr<const Source> source_;
  DType dtype_;
  MakeBackend make_backend_;
  int64_t chunk_;
  DType state_;  // of its sessions
  std::shared_ptr<const Weights> weights_;
  std::map<int64_t, std::vector<std::unique_ptr<Session>>> sessions_;
};

}  // namespace bdh::bench
