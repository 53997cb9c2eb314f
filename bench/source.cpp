// Making models, texts and sessions to benchmark with.
#include "bench/source.h"

#include <random>

#include "bdh/model/quantization.h"
#include "bdh/pretrained/model.h"
#include "kernels/sampler.h"

namespace bdh::bench {

namespace {

constexpr uint64_t kSeed = 1;
constexpr size_t kTextTokens = 1024;

std::vector<int32_t> random_text(int64_t vocab) {
  std::mt19937 random(kSeed);
  std::vector<int32_t> text(kTextTokens);
  for (int32_t& token : text) token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  return text;
}

std::vector<int32_t> written_text(const Source& source, const std::shared_ptr<Backend>& backend) {
  Session session(std::make_shared<const Weights>(source.config, source.state_dict, backend));
  Sampler sampler({.seed = kSeed});
  std::vector<int32_t> text{'\n' < source.config.vocab_size ? '\n' : 0};
  while (text.size() < kTextTokens) text.push_back(sampler.next(session.read({&text.back(), 1}), text));
  return text;
}

}  // namespace

std::shared_ptr<const Source> random_source(const Config& config, const std::string& name) {
  return std::make_shared<const Source>(
      Source{name, config, random_state_dict(config, kSeed), random_text(config.vocab_size)});
}

std::shared_ptr<const Source> trained_source(const std::filesystem::path& directory,
                                             const std::shared_ptr<Backend>& backend) {
  Source source{"trained", read_config(directory), find_weights(directory).state_dict(), {}};
  source.text = written_text(source, backend);
  return std::make_shared<const Source>(std::move(source));
}

std::string option_name(DType dtype) {
  if (dtype == DType::i8 || dtype == DType::u8) return dtype == DType::i8 ? "int8" : "int4";
  return dtype == DType::f32 ? "f32" : dtype == DType::bf16 ? "bf16" : "f16";
}

const std::shared_ptr<const Weights>& Subject::weights() {
  if (!weights_ && !is_weight_dtype(dtype_)) {
    const int64_t bits = dtype_ == DType::i8 ? 8 : 4;
    weights_ = std::make_shared<const Weights>(with_weight_bits(source_->config, bits),
                                               quantized(source_->config, source_->state_dict, bits),
                                               make_backend_());
  }
  if (!weights_) {
    weights_ = std::make_shared<const Weights>(source_->config, source_->state_dict, make_backend_(), dtype_);
  }
  return weights_;
}

std::vector<int32_t> Subject::tokens(int64_t position, int64_t count) const {
  const auto length = static_cast<int64_t>(source_->text.size());
  std::vector<int32_t> some;
  for (int64_t t = 0; t < count; ++t)
    some.push_back(source_->text[static_cast<size_t>((position + t) % length)]);
  return some;
}

std::vector<Session*> Subject::sessions(int64_t position, int64_t count) {
  auto& kept = sessions_[position];
  if (kept.empty()) {
    auto first = std::make_unique<Session>(
        weights(), SessionOptions{.horizon = {}, .state_dtype = state_, .max_bytes = {}});
    ReadOptions how;
    how.chunk = chunk_;
    if (position > 0) first->read(tokens(0, position), how);
    kept.push_back(std::move(first));
  }
  while (static_cast<int64_t>(kept.size()) < count)
    kept.push_back(std::make_unique<Session>(kept.front()->clone()));
  std::vector<Session*> some;
  for (int64_t i = 0; i < count; ++i) some.push_back(kept[static_cast<size_t>(i)].get());
  return some;
}

}  // namespace bdh::bench
