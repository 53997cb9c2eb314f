// Embedding on the CPU.
#include "kernels/cpu/embedding.h"

#include <algorithm>

#include "bdh/base/dtype.h"
#include "kernels/cpu/adapters.h"

namespace bdh::cpu {

void embed_token(const Kernels& kernels, const PackedParameters& packed, int32_t token,
                 const Adapter* adapter, float* x) {
  const int64_t width = packed.dims.width;
  const Rows row = from_row(packed.embed, token);
  if (packed.is_quantized()) {
    kernels.widen_quantized(row, 1, packed.stride, x);
  } else {
    convert(packed.dtype, row.data, DType::f32, x, static_cast<size_t>(width));
  }
  std::fill(x + width, x + packed.stride, 0.0f);
  if (adapter && adapter->embed.rank > 0)
    expand(kernels, adapter->embed, 0, adapter->embed.left.row(token), 0, packed.stride, x);
  kernels.norm(x, width, packed.stride, x);
}

}  // namespace bdh::cpu
