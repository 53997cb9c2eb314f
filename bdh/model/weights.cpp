// From a state_dict to parameters on a backend: names, shapes and dtypes are checked here, before anything is
// computed.
#include "bdh/model/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/sha256.h"
#include "bdh/base/tensor_hash.h"
#include "bdh/model/frequencies.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"

namespace bdh {

namespace {

constexpr const char* kEncoder = "encoder";
constexpr const char* kEncoderV = "encoder_v";
constexpr const char* kDecoder = "decoder";
constexpr const char* kLmHead = "lm_head";
constexpr const char* kEmbed = "embed.weight";

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

[[noreturn]] void fail_missing(const TensorMap& tensors, const std::string& name, const Config& config,
                               const std::string& source) {
  if (tensors.contains(concat(name, kRows))) {
    fail(ErrorKind::bad_file, source, ": tensor '", name, kRows, "' says that the weights are packed, but ",
         "config.json has no quantization_config that says so; the two belong to different models");
  }
  const bool others = tensors.contains(config.tie_layers ? concat(kEncoder, ".0") : kEncoder);
  if (others) {
    fail(ErrorKind::bad_file, source, ": tensor '", name, "' is missing; there is ",
         config.tie_layers
             ? "encoder.0: each layer has its own weights, so config.json must say tie_layers: false"
             : "encoder: all layers share it, so config.json must not say tie_layers: false");
  }
  fail(ErrorKind::bad_file, source, ": tensor '", name,
       "' is missing; a BDH model has decoder, encoder, encoder_v, lm_head and embed.weight");
}

// Where config.json and tensors do not agree on whether they are quantized, that is what is wrong.
void require_same_quantization(const TensorMap& tensors, const std::string& name, const Config& config,
                               const std::string& source) {
  const std::string scales = concat(name, kScales);
  const bool has_scales = tensors.contains(scales);
  if (has_scales && config.weight_bits == 0)
    fail(ErrorKind::bad_file, source, ": tensor '", scales, "' says that the weights are quantized, but ",
         "config.json has no quantization_config; the two belong to different models");
  if (!has_scales && config.weight_bits != 0)
    fail(ErrorKind::bad_file, source, ": tensor '", scales, "' is missing, and config.json's ",
         "quantization_config asks for it; the two belong to different models");
}

const Tensor& find(const TensorMap& tensors, const std::string& name, const Shape& shape,
                   const Config& config, const std::string& source) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail_missing(tensors, name, config, source);
  const Tensor& tensor = found->second;
  if (tensor.shape != shape) {
    fail(ErrorKind::bad_file, source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
         ", but config.json makes it ", to_string(shape), "; the two belong to different models");
  }
  return tensor;
}

/// Packed ones stay views, behind whose rows the padding lies.
Tensor contiguous_unless_packed(const Tensor& tensor, const Config& config) {
  return config.packed ? tensor : converted(tensor, tensor.dtype);
}

Matrix float_matrix(const TensorMap& tensors, const std::string& name, const Shape& shape,
                    const Config& config, const std::string& source) {
  const Tensor& tensor = find(tensors, name, shape, config, source);
  if (!is_weight_dtype(tensor.dtype)) {
    fail(ErrorKind::unsupported, source, ": tensor '", name, "' has dtype ", name_of(tensor.dtype),
         "; weights must be F64, F32, F16 or BF16");
  }
  return {contiguous_unless_packed(tensor, config), {}};
}

void require_dtype(const Tensor& tensor, DType dtype, const std::string& name, const std::string& source) {
  if (tensor.dtype == dtype) return;
  fail(ErrorKind::bad_file, source, ": tensor '", name, "' has dtype ", name_of(tensor.dtype),
       ", but config.json's quantization_config makes it ", name_of(dtype));
}

void require_finite_scales(const Tensor& scales, const std::string& name, const std::string& source) {
  constexpr uint16_t kExponent = 0x7c00;
  std::vector<uint16_t> row(static_cast<size_t>(scales.shape.back()));
  for (int64_t i = 0; i < scales.numel(); ++i) {
    const auto column = static_cast<size_t>(i) % row.size();
    if (column == 0) copy_row_major(scales, i, scales.shape.back(), reinterpret_cast<std::byte*>(row.data()));
    if ((row[column] & kExponent) != kExponent) continue;
    fail(ErrorKind::bad_file, source, ": tensor '", name, "' has a scale that is NaN or infinite, at ", i,
         "; the file is damaged");
  }
}

Matrix quantized_matrix(const TensorMap& tensors, const std::string& name, const Shape& float_shape,
                        const Config& config, const std::string& source) {
  const QuantizedShape shape = quantized_shape(name, float_shape, config.weight_bits);
  const std::string scales_name = concat(name, kScales);
  const Tensor& values = find(tensors, name, shape.values, config, source);
  const Tensor& scales = find(tensors, scales_name, shape.scales, config, source);
  require_dtype(values, shape.dtype, name, source);
  require_dtype(scales, DType::f16, scales_name, source);
  require_finite_scales(scales, scales_name, source);
  return {contiguous_unless_packed(values, config), contiguous_unless_packed(scales, config), shape.group};
}

Tensor frequencies(const TensorMap& tensors, const Config& config, const std::string& source) {
  const int64_t neurons = config.neurons_per_head();
  const auto found = tensors.find(kFreqs);
  if (found != tensors.end() && found->second.numel() != neurons) {
    fail(ErrorKind::bad_file, source, ": tensor 'attn.freqs' has shape ", to_string(found->second.shape),
         ", but config.json makes it ", to_string({1, 1, 1, neurons}),
         "; the two belong to different models");
  }
  const std::vector<float> values =
      found == tensors.end() ? rotation_frequencies(neurons) : stored_frequencies(found->second);
  std::byte* data = nullptr;
  Tensor out = make_tensor(DType::f32, {neurons}, &data);
  std::memcpy(data, values.data(), values.size() * sizeof(float));
  return out;
}

// Trained frequencies may be negative, and differ within a pair; phases must be numbers.
void check_frequencies(const Tensor& freqs, const std::string& source) {
  constexpr float kLargest = 1 << 20;
  for (int64_t i = 0; i < freqs.numel(); ++i) {
    float f;
    std::memcpy(&f, freqs.data + static_cast<size_t>(i) * sizeof f, sizeof f);
    if (!(std::fabs(f) <= kLargest)) {
      fail(ErrorKind::bad_file, source, ": attn.freqs[", i, "] is ", f, "; frequencies are turns per token, ",
           "finite and below ", kLargest, "; the model was saved after training had failed, or the file is ",
           "damaged");
    }
  }
}

void warn_of_unknown_tensors(const TensorMap& tensors, const Config& config, const std::string& source,
                             std::vector<std::string>* warnings) {
  TensorMap unknown = tensors;
  for (const auto& [name, shape] : parameter_shapes(config)) unknown.erase(name);
  for (const auto& [name, tensor] : unknown) {
    if (warnings)
      warnings->push_back(concat(source, ": tensor '", name, "' is not part of a BDH model and is ignored"));
  }
}

constexpr size_t kHashDigits = 64;

// The hash that a file keeps; empty where it keeps none.
std::string kept_hash(const std::filesystem::path& path) {
  try {
    std::string text = read_text(path, kHashDigits);
    return text.size() == kHashDigits ? text : "";
  } catch (const Error&) {
    return "";
  }
}

// It can be made again: a failure to keep it is none.
void keep_hash(const std::filesystem::path& path, const std::string& hash) {
  try {
    std::filesystem::create_directories(path.parent_path());
    AtomicFile file(path);
    file.write(hash);
    file.commit();
  } catch (const std::exception&) {
    return;
  }
}

}  // namespace

namespace {

using NamedShapes = std::vector<std::pair<std::string, Shape>>;

NamedShapes float_shapes(const Config& config) {
  const auto [layers, width, heads, neurons, vocab, sets] = config.dimensions();
  NamedShapes shapes;
  const auto add = [&](const std::string& name, const Shape& shape) {
    for (int64_t i = 0; i < config.sets(); ++i) shapes.emplace_back(layer_parameter(config, name, i), shape);
  };
  add(kDecoder, {heads * neurons, width});
  add(kEncoder, {heads, width, neurons});
  add(kEncoderV, {heads, width, neurons});
  shapes.emplace_back(kLmHead, Shape{width, vocab});
  shapes.emplace_back(kFreqs, Shape{1, 1, 1, neurons});
  shapes.emplace_back(kEmbed, Shape{vocab, width});
  return shapes;
}

NamedShapes plain_shapes(const Config& config) {
  NamedShapes floats = float_shapes(config), shapes;
  if (config.weight_bits == 0) return floats;
  for (const auto& [name, shape] : floats) {
    if (name == kFreqs) {
      shapes.emplace_back(name, shape);
      continue;
    }
    const QuantizedShape quantized = quantized_shape(name, shape, config.weight_bits);
    shapes.emplace_back(name, quantized.values);
    shapes.emplace_back(concat(name, kScales), quantized.scales);
  }
  return shapes;
}

}  // namespace

NamedShapes parameter_shapes(const Config& config) {
  NamedShapes shapes = plain_shapes(config);
  if (!config.packed) return shapes;
  for (auto& [name, shape] : shapes) {
    shape = packed_shape(name, shape, config.weight_bits);
    name = packed_name(name, config.weight_bits);
  }
  return shapes;
}

std::string_view plain_name(std::string_view name) {
  constexpr std::array kPrefixes{"_orig_mod.", "module.", "network.", "backbone.", "model."};
  const auto drop = [&](const char* prefix) { return drop_prefix(name, prefix); };
  while (std::any_of(kPrefixes.begin(), kPrefixes.end(), drop)) {
  }
  return name;
}

Weights::Weights(Config config, const TensorMap& state_dict, std::shared_ptr<Backend> backend,
                 std::optional<DType> dtype, const std::string& source, std::vector<std::string>* warnings)
    : config_(std::move(config)), backend_(std::move(backend)) {
  config_.validate();
  TensorMap tensors = plain_names(state_dict, source);
  if (config_.packed) tensors = unpacked_state_dict(config_, tensors, source);
  const NamedShapes named = float_shapes(config_);
  const std::map<std::string, Shape> shapes(named.begin(), named.end());
  const auto take = [&](const std::string& name) {
    if (tensors.contains(name)) require_same_quantization(tensors, name, config_, source);
    const auto matrix = config_.weight_bits == 0 ? float_matrix : quantized_matrix;
    return matrix(tensors, name, shapes.at(name), config_, source);
  };
  parameters_.dims = config_.dimensions();
  for (int64_t i = 0; i < config_.sets(); ++i) {
    const auto of_layer = [&](const char* name) { return take(layer_parameter(config_, name, i)); };
    parameters_.layers.push_back({of_layer(kEncoder), of_layer(kEncoderV), of_layer(kDecoder)});
  }
  parameters_.embed = take(kEmbed);
  parameters_.lm_head = take(kLmHead);
  parameters_.freqs = frequencies(tensors, config_, source);
  check_frequencies(parameters_.freqs, source);
  parameters_.packed = std::exchange(config_.packed, false);
  warn_of_unknown_tensors(tensors, config_, source, warnings);
  if (dtype && config_.weight_bits != 0)
    fail(ErrorKind::invalid_argument, source, ": the weights are quantized to ", config_.weight_bits,
         " bits and run as they are, not as ", name_of(*dtype),
         "; bdh convert --dequantize makes floats of them");
  dtype_ = stored_dtype() == DType::f64 ? DType::f32 : stored_dtype();
  if (dtype) dtype_ = *dtype;
}

Weights::Weights(std::shared_ptr<const Weights> base, std::shared_ptr<const Adapter> adapter)
    : config_(base->config_),
      backend_(base->backend_),
      base_(std::move(base)),
      adapter_(std::move(adapter)),
      parameters_(base_->parameters_),
      dtype_(base_->dtype_) {
  if (base_->adapter())
    fail(ErrorKind::unsupported, "these weights have an adapter already; apply both to the model without it");
  if (!backend_->applies_adapters()) {
    fail(ErrorKind::unsupported, backend_->name(),
         ": this backend applies no adapters beside the weights; merge them (bdh adapter merge)");
  }
}

std::string layer_parameter(const Config& config, const std::string& name, int64_t set) {
  return config.tie_layers ? name : concat(name, ".", set);
}

std::string_view Weights::dtype_name() const {
  if (config_.weight_bits == 0) return name_of(dtype_);
  return config_.weight_bits == 8 ? "int8" : "int4";
}

const Packed& Weights::packed() const {
  if (base_) return base_->packed();
  std::call_once(packing_, [&] { packed_ = backend_->pack(parameters_, dtype_); });
  return *packed_;
}

const std::string& Weights::hash() const {
  std::call_once(hashing_, [this] {
    if (base_) {
      hash_ = sha256_of(concat(base_->hash(), " ", adapter_->hash));
      return;
    }
    if (!hash_file.empty()) hash_ = kept_hash(hash_file);
    if (!hash_.empty()) return;
    hash_ = hash_of(state_dict());
    if (!hash_file.empty()) keep_hash(hash_file, hash_);
  });
  return hash_;
}

TensorMap Weights::state_dict() const {
  if (adapter_)
    fail(ErrorKind::unsupported, "weights with an adapter beside them have no state_dict; merge the adapter");
  Tensor freqs = parameters_.freqs;
  freqs.shape = {1, 1, 1, parameters_.dims.neurons};
  freqs.strides = contiguous_strides(freqs.shape);
  TensorMap tensors{{kFreqs, std::move(freqs)}};
  const auto add = [&](const std::string& name, const Matrix& matrix) {
    tensors.emplace(name, matrix.values);
    if (matrix.group != 0) tensors.emplace(concat(name, kScales), matrix.scales);
  };
  add(kLmHead, parameters_.lm_head);
  add(kEmbed, parameters_.embed);
  for (int64_t i = 0; i < config_.sets(); ++i) {
    const Layer& layer = parameters_.layers[static_cast<size_t>(i)];
    add(layer_parameter(config_, kEncoder, i), layer.encoder);
    add(layer_parameter(config_, kEncoderV, i), layer.encoder_v);
    add(layer_parameter(config_, kDecoder, i), layer.decoder);
  }
  return tensors;
}

TensorMap random_state_dict(const Config& config, uint64_t seed, DType dtype) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  TensorMap tensors;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    std::byte* data = nullptr;
    Tensor tensor = make_tensor(DType::f32, shape, &data);
    auto* values = reinterpret_cast<float*>(data);
    if (name == kFreqs) {
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
