// Parameters as the CPU kernels want them: neuron-major, rows padded to whole vectors. Made once, then read
// only.
#pragma once

#include <memory>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {

/// n rounded up to a multiple of kPadding.
constexpr int64_t padded(int64_t n) { return (n + kPadding - 1) / kPadding * kPadding; }

/// The rows from `row` on.
inline Rows from_row(const Rows& rows, int64_t row) {
  const auto* data = static_cast<const std::byte*>(rows.data);
  return {data + static_cast<size_t>(row * rows.stride) * size_of(rows.dtype), rows.dtype, rows.stride,
          rows.scales ? rows.scales + row * rows.scale_stride : nullptr, rows.scale_stride};
}

struct PackedLayer {
  Rows encoder;    // (H*N, stride): row h * N + j is E_h[:, j]
  Rows encoder_v;  // (H*N, stride)
  Rows decoder;    // (H*N, stride): as stored; in the mapped file itself when it needs no conversion,
                   // as are all rows of packed parameters
};

struct PackedParameters : Packed {
  int64_t stride = 0;      // padded(D): the length of a row of encoder, encoder_v, decoder and of every x
  bool were_rows = false;  // Parameters::packed
  std::vector<PackedLayer> layers;    // one for all, or L
  Rows embed{};                       // (V, D)
  Rows lm_head{};                     // (D, padded(V)); quantized: (V, D), a row for each logit
  std::vector<float> freqs;           // (padded(N)) turns per token
  std::vector<uint64_t> fixed_freqs;  // (padded(N)) the same, times 2^64
  int64_t rotated_positions =
      0;  // below this position the kernels compute phases; 0 where a freq is negative
  std::vector<std::shared_ptr<const void>> owners;  // what the rows lie in

  bool is_quantized() const { return embed.scales != nullptr; }
  const PackedLayer& layer(int64_t i) const { return layers[static_cast<size_t>(i) % layers.size()]; }
};

/// Bytes of the rows and frequencies, wherever they lie.
size_t packed_bytes(const Dimensions& dims, DType dtype);

std::shared_ptr<const PackedParameters> pack_parameters(const Parameters& parameters, DType dtype,
                                                        ThreadPool& pool);

}  // namespace bdh::cpu
