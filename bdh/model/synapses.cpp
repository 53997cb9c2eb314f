// A search of S, and of the kept tokens for what led to it.
#include "bdh/model/synapses.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bdh/base/error.h"
#include "kernels/horizon.h"

namespace bdh {

namespace {

template <class Number>
Number at(const Tensor& tensor, int64_t i) {
  Number number;
  std::memcpy(&number, tensor.data + static_cast<size_t>(i) * sizeof number, sizeof number);
  return number;
}

/// The places of the largest entries, the largest first.
std::vector<int64_t> largest(const Tensor& s, size_t count) {
  const auto strength = [&](int64_t i) { return std::abs(at<float>(s, i)); };
  const auto above = [&](int64_t a, int64_t b) {
    return strength(a) > strength(b) || (strength(a) == strength(b) && a < b);
  };
  std::vector<int64_t> heap;  // its front is the least of them
  for (int64_t i = 0; i < s.numel(); ++i) {
    if (at<float>(s, i) == 0.0f) continue;
    if (heap.size() == count && !above(i, heap.front())) continue;
    heap.push_back(i);
    std::push_heap(heap.begin(), heap.end(), above);
    if (heap.size() <= count) continue;
    std::pop_heap(heap.begin(), heap.end(), above);
    heap.pop_back();
  }
  std::sort_heap(heap.begin(), heap.end(), above);
  return heap;
}

/// r of a neuron, in [0, H*N), as token p left it.
float r_of(const KeptTokens& tokens, int64_t layer, int64_t p, int32_t neuron) {
  const int64_t row = layer * (tokens.count() + 1) + p;
  const auto end = at<int64_t>(tokens.begin, row + 1);
  for (auto i = at<int64_t>(tokens.begin, row); i < end; ++i)
    if (at<int32_t>(tokens.neuron, i) == neuron) return at<float>(tokens.r, i);
  return 0;
}

}  // namespace

std::vector<Synapse> strongest_synapses(const SavedState& saved, const Dimensions& dims,
                                        std::span<const float> horizons, size_t count, size_t sources) {
  const KeptTokens& tokens = saved.tokens;
  if (tokens.count() != saved.position)
    fail(ErrorKind::invalid_argument, "synapses: the state holds ", tokens.count(), " of its ",
         saved.position, " tokens");
  std::vector<Synapse> synapses;
  if (saved.position == 0) return synapses;
  const Tensor s = folded(saved, dims, horizons);
  for (const int64_t place : largest(s, count)) {
    const int64_t dimension = place % dims.width, row = place / dims.width;
    const int64_t neuron = row % dims.neurons, head = row / dims.neurons % dims.heads;
    Synapse synapse{row / dims.neurons / dims.heads, head, neuron, dimension, at<float>(s, place), {}};
    const auto in_layer = static_cast<int32_t>(head * dims.neurons + neuron);
    for (int64_t p = 0; p < tokens.count(); ++p) {
      const float r = r_of(tokens, synapse.layer, p, in_layer);
      if (r == 0.0f) continue;
      const int64_t x = (synapse.layer * tokens.count() + p) * dims.width + dimension;
      const float weight =
          horizons.empty() ? 1.0f : weight_after(saved.position - p, horizons[static_cast<size_t>(head)]);
      synapse.sources.push_back({p, weight * r * at<float>(tokens.x, x)});
    }
    std::stable_sort(synapse.sources.begin(), synapse.sources.end(),
                     [](const auto& a, const auto& b) { return std::abs(a.value) > std::abs(b.value); });
    synapse.sources.resize(std::min(synapse.sources.size(), sources));
    synapses.push_back(std::move(synapse));
  }
  return synapses;
}

}  // namespace bdh
