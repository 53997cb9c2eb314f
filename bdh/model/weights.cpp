// From a state_dict to parameters on a backend: names, shapes and dtypes are checked here, before anything is
// computed.
#include "bdh/model/weights.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "bdh/base/error.h"

namespace bdh {

namespace {

bool drop_prefix(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return true;
}

TensorMap plain_names(const TensorMap& state_dict, const std::string& source) {
  TensorMap plain;
  for (const auto& [name, tensor] : state_dict) {
    if (!plain.emplace(std::string(plain_name(name)), tensor).second) {
      fail(ErrorKind::bad_file, source, ": tensor '", plain_name(name),
           "' stands more than once, with and without prefix");
    }
  }
  return plain;
}

const Tensor& find(const TensorMap& tensors, const std::string& name, const Shape& shape,
                   const std::string& source) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    fail(ErrorKind::bad_file, source, ": tensor '", name,
         "' is missing; a BDH model has decoder, encoder, encoder_v, "
         "lm_head and embed.weight");
  }
  const Tensor& tensor = found->second;
  if (tensor.shape != shape) {
    fail(ErrorKind::bad_file, source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
         ", but config.json makes it ", to_string(shape), "; the two belong to different models");
  }
  if (!is_weight_dtype(tensor.dtype)) {
    fail(ErrorKind::unsupported, source, ": tensor '", name, "' has dtype ", name_of(tensor.dtype),
         "; weights must be F64, F32, F16 or BF16");
  }
  return tensor;
}

Tensor frequencies(const TensorMap& tensors, const Config& config, const std::string& source,
                   std::vector<std::string>* warnings) {
  const int64_t neurons = config.neurons_per_head();
  const auto found = tensors.find("attn.freqs");
  if (found != tensors.end() && found->second.numel() != neurons) {
    fail(ErrorKind::bad_file, source, ": tensor 'attn.freqs' has shape ", to_string(found->second.shape),
         ", but config.json makes it ", to_string({1, 1, 1, neurons}),
         "; the two belong to different models");
  }
  Tensor out;
  if (found != tensors.end() && found->second.dtype == DType::f32) {
    out = converted(found->second, DType::f32);
    out.shape = {neurons};
    out.strides = {1};
    return out;
  }
  if (found != tensors.end() && warnings) {
    warnings->push_back(concat(source, ": attn.freqs is ", name_of(found->second.dtype),
                               "; rotation uses float32 ones instead"));
  }
  std::byte* data = nullptr;
  out = make_tensor(DType::f32, {neurons}, &data);
  const std::vector<float> derived = rotation_frequencies(neurons);
  std::memcpy(data, derived.data(), derived.size() * sizeof(float));
  return out;
}

// Phases must be whole float32 numbers of turns in a sane range: rotation is undefined for others.
void check_frequencies(const Tensor& freqs, const std::string& source) {
  for (int64_t i = 0; i < freqs.numel(); ++i) {
    float f;
    std::memcpy(&f, freqs.data + static_cast<size_t>(i) * sizeof f, sizeof f);
    if (!(f >= 0.0f && f <= 1.0f)) {
      fail(ErrorKind::bad_file, source, ": attn.freqs[", i, "] is ", f,
           "; frequencies lie in [0, 1] turns per token");
    }
  }
}

void warn_of_strangers(const TensorMap& tensors, const Config& config, const std::string& source,
                       std::vector<std::string>* warnings) {
  TensorMap strangers = tensors;
  for (const auto& [name, shape] : parameter_shapes(config)) strangers.erase(name);
  for (const auto& [name, tensor] : strangers) {
    if (warnings)
      warnings->push_back(concat(source, ": tensor '", name, "' is not part of a BDH model and is ignored"));
  }
}

}  // namespace

std::vector<std::pair<std::string, Shape>> parameter_shapes(const Config& config) {
  const auto [layers, width, heads, neurons, vocab, sets] = config.dimensions();
  return {{"decoder", {heads * neurons, width}},  {"encoder", {heads, width, neurons}},
          {"encoder_v", {heads, width, neurons}}, {"lm_head", {width, vocab}},
          {"attn.freqs", {1, 1, 1, neurons}},     {"embed.weight", {vocab, width}}};
}

std::string_view plain_name(std::string_view name) {
  while (drop_prefix(name, "_orig_mod.") || drop_prefix(name, "module.")) {
  }
  return name;
}

Weights::Weights(Config config, const TensorMap& state_dict, std::shared_ptr<Backend> backend,
                 std::optional<DType> dtype, const std::string& source, std::vector<std::string>* warnings)
    : config_(std::move(config)), backend_(std::move(backend)) {
  config_.validate();
  const TensorMap tensors = plain_names(state_dict, source);
  const auto shapes = parameter_shapes(config_);
  const auto take = [&](size_t i) {
    const Tensor& tensor = find(tensors, shapes[i].first, shapes[i].second, source);
    return converted(tensor, tensor.dtype);
  };
  parameters_ = {config_.dimensions(),
                 take(5),
                 take(1),
                 take(2),
                 take(0),
                 take(3),
                 frequencies(tensors, config_, source, warnings)};
  check_frequencies(parameters_.freqs, source);
  warn_of_strangers(tensors, config_, source, warnings);
  const DType stored = parameters_.encoder.dtype;
  dtype_ = dtype.value_or(stored == DType::f64 ? DType::f32 : stored);
}

const Packed& Weights::packed() const {
  std::call_once(packing_, [&] { packed_ = backend_->pack(parameters_, dtype_); });
  return *packed_;
}

TensorMap Weights::state_dict() const {
  Tensor freqs = parameters_.freqs;
  freqs.shape = {1, 1, 1, parameters_.dims.neurons};
  freqs.strides = contiguous_strides(freqs.shape);
  return {{"decoder", parameters_.decoder},     {"encoder", parameters_.encoder},
          {"encoder_v", parameters_.encoder_v}, {"lm_head", parameters_.lm_head},
          {"attn.freqs", std::move(freqs)},     {"embed.weight", parameters_.embed}};
}

TensorMap random_state_dict(const Config& config, uint64_t seed, DType dtype) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  TensorMap tensors;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    std::byte* data = nullptr;
    Tensor tensor = make_tensor(DType::f32, shape, &data);
    auto* values = reinterpret_cast<float*>(data);
    if (name == "attn.freqs") {
      const std::vector<float> freqs = rotation_frequencies(config.neurons_per_head());
      std::copy(freqs.begin(), freqs.end(), values);
    } else {
      std::generate_n(values, tensor.numel(), [&] { return normal(bits); });
      tensor = converted(tensor, dtype);
    }
    tensors.emplace(name, tensor);
  }
  return tensors;
}

}  // namespace bdh
