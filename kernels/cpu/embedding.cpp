// Embedding on the CPU.
#include "kernels/cpu/embedding.h"

#include <algorithm>

#include "bdh/base/dtype.h"

namespace bdh::cpu {

void embed_token(const Kernels& kernels, const PackedParameters& packed, int32_t token, float* x) {
  const int64_t width = packed.dims.width;
  const auto* row = static_cast<const std::byte*>(packed.embed.data) +
                    static_cast<size_t>(token * width) * size_of(packed.dtype);
  convert(packed.dtype, row, DType::f32, x, static_cast<size_t>(width));
  std::fill(x + width, x + packed.stride, 0.0f);
  kernels.norm(x, width, packed.stride, x);
}

}  // namespace bdh::cpu
