// Embedding on the CPU.
#include "kernels/cpu/embedding.h"

#include <algorithm>

#include "bdh/base/dtype.h"

namespace bdh::cpu {

void embed_token(const Kernels& kernels, const PackedParameters& packed, int32_t token, float* x) {
  const int64_t width = packed.dims.width;
  const Rows row = from_row(packed.embed, token);
  if (packed.is_quantized()) {
    kernels.widen_quantized(row, 1, packed.stride, x);
  } else {
    convert(packed.dtype, row.data, DType::f32, x, static_cast<size_t>(width));
  }
  std::fill(x + width, x + packed.stride, 0.0f);
  kernels.norm(x, width, packed.stride, x);
}

}  // namespace bdh::cpu
