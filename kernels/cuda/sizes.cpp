// Checks that a model's dimensions fit the kernels' indices.
#include "kernels/cuda/sizes.h"

#include <limits>

#include "bdh/base/error.h"

namespace bdh::cuda {

Sizes sizes_of(const Dimensions& dims) {
  const auto fits = [](const char* name, int64_t value, int64_t most) {
    if (value > most)
      fail(ErrorKind::unsupported, "the CUDA backend takes ", name, " up to ", most, ", not ", value,
           "; use --device cpu");
    return static_cast<int>(value);
  };
  constexpr int64_t kMost = std::numeric_limits<int>::max() / 2;
  const Sizes sizes{fits("n_layer", dims.layers, kMost),
                    fits("n_embd", dims.width, kWidest),
                    static_cast<int>(rounded_up(dims.width, kVector)),
                    fits("n_head", dims.heads, kMostBlocks),
                    fits("neurons per head", dims.neurons, kMost),
                    fits("vocab_size", dims.vocab, kMost)};
  return sizes;
}

}  // namespace bdh::cuda
