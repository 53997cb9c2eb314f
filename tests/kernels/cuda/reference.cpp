// The operations as the contract writes them (kernels/backend.h), one loop each.
#include "tests/kernels/cuda/reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "bdh/model/quantization.h"

namespace bdh::test {

namespace {

template <class Number>
std::vector<Number> values_of(const Tensor& tensor, DType dtype) {
  const Tensor as = converted(tensor, dtype);
  const auto* from = reinterpret_cast<const Number*>(as.data);
  return {from, from + as.numel()};
}

Numbers weights_of(const Tensor& tensor, DType dtype) {
  return values_of<double>(converted(tensor, dtype), DType::f64);
}

uint64_t next(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

// In [0, 1).
double uniform(uint64_t& state) { return static_cast<double>(next(state)) / 2147483648.0; }

Numbers relu_product(const KernelModel& model, const Numbers& weights, const double* x, int64_t x_stride) {
  const auto [layers, width, heads, neurons, vocab, sets] = model.dims;
  Numbers out(static_cast<size_t>(heads * neurons));
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t j = 0; j < neurons; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < width; ++d)
        sum += x[h * x_stride + d] * weights[static_cast<size_t>((h * width + d) * neurons + j)];
      out[static_cast<size_t>(h * neurons + j)] = std::max(sum, 0.0);
    }
  }
  return out;
}

}  // namespace

KernelModel::KernelModel(const Config& config, DType type, DType products)
    : dims(config.dimensions()), dtype(type) {
  weights = on_gpu(config, type);
  const bool scaled = type == DType::i8 || type == DType::u8;
  const TensorMap tensors =
      scaled ? dequantized(weights->config(), weights->state_dict()) : weights->state_dict();
  const DType as = scaled ? products : type;
  for (int64_t i = 0; i < dims.sets; ++i) {
    const auto layer_weights = [&](const std::string& name) {
      return weights_of(tensors.at(config.tie_layers ? name : name + "." + std::to_string(i)), as);
    };
    layers.push_back({layer_weights("encoder"), layer_weights("encoder_v"), layer_weights("decoder")});
  }
  embed = weights_of(tensors.at("embed.weight"), as);
  lm_head = weights_of(tensors.at("lm_head"), as);
  freqs = values_of<float>(tensors.at("attn.freqs"), DType::f32);
}

Numbers encode(const KernelModel& model, int layer, const double* x) {
  return relu_product(model, model.layer(layer).encoder, x, 0);
}

Numbers gate_values(const KernelModel& model, int layer, const Numbers& attended) {
  return relu_product(model, model.layer(layer).encoder_v, attended.data(), model.dims.width);
}

Numbers rotate(const KernelModel& model, const Numbers& n, int64_t position) {
  Numbers r(n.size());
  for (size_t i = 0; i < n.size(); i += 2) {
    for (const size_t own : {i, i + 1}) {
      const float phase =
          static_cast<float>(position) * model.freqs[own % static_cast<size_t>(model.dims.neurons)];
      const double angle = 2 * std::numbers::pi * static_cast<double>(phase - std::trunc(phase));
      const double partner = own == i ? -n[i + 1] : n[i];
      r[own] = n[own] * std::cos(angle) + partner * std::sin(angle);
    }
  }
  return r;
}

Numbers norm(Numbers row) {
  const auto count = static_cast<double>(row.size());
  double mean = 0, variance = 0;
  for (const double value : row) mean += value / count;
  for (const double value : row) variance += (value - mean) * (value - mean) / count;
  for (double& value : row) value = (value - mean) / std::sqrt(variance + 1e-5);
  return row;
}

Numbers mix(const KernelModel& model, int layer, const Numbers& g) {
  const auto width = static_cast<size_t>(model.dims.width);
  const Numbers& decoder = model.layer(layer).decoder;
  Numbers y(width);
  for (size_t j = 0; j < g.size(); ++j) {
    for (size_t d = 0; d < width; ++d) y[d] += g[j] * decoder[j * width + d];
  }
  return y;
}

Numbers residual(const Numbers& x, const Numbers& y) {
  Numbers sum = norm(y);
  for (size_t d = 0; d < sum.size(); ++d) sum[d] += x[d];
  return norm(sum);
}

Numbers random_numbers(int64_t count, uint64_t seed, double scale) {
  Numbers out(static_cast<size_t>(count));
  for (double& value : out) value = rounded({scale * (2 * uniform(seed) - 1)}, DType::f32)[0];
  return out;
}

Numbers random_activity(int64_t count, uint64_t seed, double density, double scale) {
  Numbers out(static_cast<size_t>(count));
  for (double& value : out) {
    const double amount = uniform(seed);
    if (uniform(seed) < density) value = rounded({scale * (amount + 0.01)}, DType::f32)[0];
  }
  return out;
}

Numbers padded(const Numbers& numbers, int64_t width, int64_t stride) {
  const size_t rows = numbers.size() / static_cast<size_t>(width);
  Numbers out(rows * static_cast<size_t>(stride));
  for (size_t row = 0; row < rows; ++row)
    std::copy_n(numbers.begin() + static_cast<std::ptrdiff_t>(row) * width, width,
                out.begin() + static_cast<std::ptrdiff_t>(row) * stride);
  return out;
}

Numbers unpadded(const Numbers& numbers, int64_t width, int64_t stride) {
  const size_t rows = numbers.size() / static_cast<size_t>(stride);
  Numbers out;
  for (size_t row = 0; row < rows; ++row) {
    const auto begin = numbers.begin() + static_cast<std::ptrdiff_t>(row) * stride;
    out.insert(out.end(), begin, begin + width);
  }
  return out;
}

Numbers rounded(const Numbers& numbers, DType dtype) {
  std::vector<std::byte> bytes(numbers.size() * size_of(dtype));
  Numbers out(numbers.size());
  convert(DType::f64, numbers.data(), dtype, bytes.data(), numbers.size());
  convert(dtype, bytes.data(), DType::f64, out.data(), out.size());
  return out;
}

void poison(void* memory, size_t bytes) {
  cuda::check(cudaMemset(memory, 0xff, bytes), "poisoning");
  cuda::check(cudaDeviceSynchronize(), "poisoning");
}

cuda::DeviceMemory poisoned(size_t bytes) {
  cuda::DeviceMemory memory(bytes, "a test");
  poison(memory.as<void>(), bytes);
  return memory;
}

void upload_bytes(void* to, const void* from, size_t bytes) {
  cuda::check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "uploading");
  cuda::check(cudaDeviceSynchronize(), "uploading");
}

void download_bytes(void* to, const void* from, size_t bytes) {
  cuda::check(cudaDeviceSynchronize(), "running a kernel");
  cuda::check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "downloading");
}

void upload(void* to, const Numbers& from, DType dtype) {
  std::vector<std::byte> bytes(from.size() * size_of(dtype));
  convert(DType::f64, from.data(), dtype, bytes.data(), from.size());
  upload_bytes(to, bytes.data(), bytes.size());
}

Numbers download(const void* from, int64_t count, DType dtype) {
  std::vector<std::byte> bytes(static_cast<size_t>(count) * size_of(dtype));
  download_bytes(bytes.data(), from, bytes.size());
  Numbers out(static_cast<size_t>(count));
  convert(dtype, bytes.data(), DType::f64, out.data(), out.size());
  return out;
}

cuda::DeviceMemory uploaded(const Numbers& from, DType dtype) {
  cuda::DeviceMemory memory(from.size() * size_of(dtype), "a test");
  upload(memory.as<void>(), from, dtype);
  return memory;
}

double worst(const Numbers& got, const Numbers& want) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0, largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference = std::max(difference, std::abs(got[i] - want[i]));
    largest = std::max(largest, std::abs(want[i]));
  }
  return largest == 0 ? difference : difference / largest;
}

double tolerance_of(DType activations) {
  if (activations == DType::bf16) return 1e-2;
  return activations == DType::f16 ? 2e-3 : 1e-5;
}

}  // namespace bdh::test
