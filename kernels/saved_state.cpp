// Saved states: what may be in one, and the S that it stands for.
#include "kernels/saved_state.h"

#include <cmath>
#include <cstring>
#include <string>

#include "bdh/base/error.h"
#include "kernels/backend.h"
#include "kernels/horizon.h"

namespace bdh {
namespace {

template <class... Parts>
void require(bool right, const Parts&... parts) {
  if (!right) fail(ErrorKind::bad_file, "the saved state is damaged: ", parts...);
}

void require_tensor(const Tensor& tensor, DType dtype, const Shape& shape, const char* what) {
  require(tensor.dtype == dtype && tensor.shape == shape && tensor.contiguous(), what, " is ",
          name_of(tensor.dtype), " ", to_string(tensor.shape), ", not ", name_of(dtype), " ",
          to_string(shape));
}

/// Element i; data may be unaligned.
template <class Number>
Number at(const Tensor& tensor, int64_t i) {
  Number number;
  std::memcpy(&number, tensor.data + static_cast<size_t>(i) * sizeof number, sizeof number);
  return number;
}

void check_tokens(const KeptTokens& tokens, const Dimensions& dims, int64_t position) {
  if (!tokens.begin.data) return;
  require(tokens.begin.shape.size() == 2 && tokens.begin.shape[1] > 0, "its tokens have no beginnings");
  const int64_t count = tokens.count(), entries = tokens.r.data ? tokens.r.numel() : 0;
  require(count <= position, "it keeps ", count, " tokens of ", position);
  require_tensor(tokens.begin, DType::i64, {dims.layers, count + 1}, "begin");
  require_tensor(tokens.x, DType::f32, {dims.layers, count, dims.width}, "x");
  if (entries > 0) {
    require_tensor(tokens.r, DType::f32, {entries}, "r");
    require_tensor(tokens.neuron, DType::i32, {entries}, "neuron");
  }
  for (int64_t i = 0; i < dims.layers * (count + 1); ++i) {
    const auto begin = at<int64_t>(tokens.begin, i);
    require(begin >= 0 && begin <= entries, "begin[", i, "] is ", begin);
    const bool first = i % (count + 1) == 0;
    if (first) continue;
    const auto from = at<int64_t>(tokens.begin, i - 1);
    require(from <= begin, "begin[", i, "] falls");
    for (int64_t j = from, last = -1; j < begin; ++j) {
      const int64_t neuron = at<int32_t>(tokens.neuron, j);
      require(neuron > last && neuron < dims.heads * dims.neurons, "neuron[", j, "] is ", neuron);
      last = neuron;
    }
  }
}

void check_held(const SavedState& saved, const Dimensions& dims) {
  if (!saved.held.data) return;
  require_tensor(saved.held, DType::i64, {dims.heads, dims.neurons}, "held");
  const int64_t oldest = saved.position - saved.tokens.count();
  for (int64_t row = 0; row < dims.heads * dims.neurons; ++row) {
    const auto held = at<int64_t>(saved.held, row);
    require(held >= oldest && held <= saved.position, "held[", row, "] is ", held);
  }
}

struct Folding {
  const SavedState& saved;
  const Dimensions& dims;
  std::span<const float> horizons;
  float* out;

  double exponent(int64_t row, int64_t distance) const {
    if (horizons.empty()) return 0;
    return static_cast<double>(distance) / static_cast<double>(horizons[row / dims.neurons]);
  }
  int64_t held(int64_t row) const {
    if (!saved.s.data) return 0;
    return saved.held.data ? at<int64_t>(saved.held, row) : saved.position;
  }
  float weight(int64_t row, int64_t distance) const {
    return horizons.empty() ? 1.0f : weight_after(distance, horizons[row / dims.neurons]);
  }
  float* row_of(int64_t layer, int64_t row) const {
    return out + (layer * dims.heads * dims.neurons + row) * dims.width;
  }
};

// s as of the position.
void fold_s(const Folding& f, int64_t layer, int64_t row) {
  float* to = f.row_of(layer, row);
  const int64_t from = f.saved.held.data ? f.held(row) : f.saved.base;
  const auto factor = static_cast<float>(std::exp(-f.exponent(row, f.saved.position - from)));
  if (factor == 1.0f) return;
  for (int64_t d = 0; d < f.dims.width; ++d) {
    const float value = to[d] * factor;
    to[d] = std::abs(value) > kSmallest ? value : 0.0f;
  }
}

void fold_tokens(const Folding& f, int64_t layer) {
  const KeptTokens& tokens = f.saved.tokens;
  const int64_t count = tokens.count(), width = f.dims.width;
  std::vector<float> x(static_cast<size_t>(width));
  for (int64_t p = 0; p < count; ++p) {
    std::memcpy(x.data(), tokens.x.data + static_cast<size_t>((layer * count + p) * width) * sizeof(float),
                x.size() * sizeof(float));
    const int64_t position = f.saved.position - count + p;
    const auto end = at<int64_t>(tokens.begin, layer * (count + 1) + p + 1);
    for (auto i = at<int64_t>(tokens.begin, layer * (count + 1) + p); i < end; ++i) {
      const int64_t row = at<int32_t>(tokens.neuron, i);
      if (position < f.held(row)) continue;
      const float r = at<float>(tokens.r, i) * f.weight(row, f.saved.position - position);
      float* to = f.row_of(layer, row);
      for (int64_t d = 0; d < width; ++d) to[d] += r * x[static_cast<size_t>(d)];
    }
  }
}

}  // namespace

void check(const SavedState& saved, const Dimensions& dims) {
  const auto [layers, width, heads, neurons, vocab, sets] = dims;
  require(saved.position >= 0 && saved.position <= kMaxPosition, "its position is ", saved.position);
  require(saved.base >= 0 && saved.base <= saved.position, "its base is ", saved.base);
  require(saved.first == -1 || saved.first == saved.position - saved.tokens.count(),
          "its tokens are not those since ", saved.first);
  if (saved.s.data) {
    const DType dtype = saved.s.dtype == DType::bf16 ? DType::bf16 : DType::f32;
    require_tensor(saved.s, dtype, {layers, heads, neurons, width}, "the state");
  }
  check_tokens(saved.tokens, dims, saved.position);
  check_held(saved, dims);
}

Tensor folded(const SavedState& saved, const Dimensions& dims, std::span<const float> horizons) {
  const auto [layers, width, heads, neurons, vocab, sets] = dims;
  std::byte* data = nullptr;
  Tensor s = make_tensor(DType::f32, {layers, heads, neurons, width}, &data);
  if (saved.s.data) {
    const auto count = static_cast<size_t>(saved.s.numel());
    convert(saved.s.dtype, saved.s.data, DType::f32, data, count);
  }
  const Folding folding{saved, dims, horizons, reinterpret_cast<float*>(data)};
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t row = 0; row < heads * neurons && saved.s.data && !horizons.empty(); ++row)
      fold_s(folding, layer, row);
    fold_tokens(folding, layer);
  }
  return s;
}

KeptTokens joined(const std::vector<KeptTokens>& parts) {
  const int64_t layers = parts.front().x.shape[0], width = parts.front().x.shape[2];
  int64_t count = 0, entries = 0;
  for (const KeptTokens& part : parts) {
    count += part.count();
    entries += part.r.data ? part.r.numel() : 0;
  }
  std::byte *begin = nullptr, *neuron = nullptr, *r = nullptr, *x = nullptr;
  KeptTokens whole{make_tensor(DType::i64, {layers, count + 1}, &begin),
                   make_tensor(DType::i32, {entries}, &neuron), make_tensor(DType::f32, {entries}, &r),
                   make_tensor(DType::f32, {layers, count, width}, &x)};
  auto* ends = reinterpret_cast<int64_t*>(begin);
  int64_t filled = 0;
  const auto append = [&](const KeptTokens& part, int64_t layer) {
    const int64_t tokens = part.count();
    for (int64_t p = 0; p < tokens; ++p) {
      const int64_t at_begin = layer * (tokens + 1) + p;
      const auto from = at<int64_t>(part.begin, at_begin), to = at<int64_t>(part.begin, at_begin + 1);
      const auto bytes = static_cast<size_t>(to - from) * 4;
      if (bytes > 0) {
        std::memcpy(neuron + filled * 4, part.neuron.data + from * 4, bytes);
        std::memcpy(r + filled * 4, part.r.data + from * 4, bytes);
      }
      filled += to - from;
      *ends++ = filled;
    }
    const auto bytes = static_cast<size_t>(tokens * width) * sizeof(float);
    std::memcpy(x, part.x.data + static_cast<size_t>(layer) * bytes, bytes);
    x += bytes;
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    *ends++ = filled;
    for (const KeptTokens& part : parts) append(part, layer);
  }
  return whole;
}

size_t bytes_of(const SavedState& saved) {
  size_t bytes = 0;
  const KeptTokens& tokens = saved.tokens;
  for (const Tensor* tensor : {&saved.s, &saved.held, &tokens.begin, &tokens.neuron, &tokens.r, &tokens.x})
    bytes += tensor->data ? tensor->bytes() : 0;
  return bytes;
}

}  // namespace bdh
