// Fused encode of a chunk:  n = relu(x E_h)   r = rotate(n)
//
// Flops of a layer: 2 D for each of R H N numbers. Bytes: E once for every 128 rows, and 4 bytes (two 16-bit
// numbers) written for every 2 D flops, against 4 more read and written if ReLU and rotation were passes of
// their own. The product hands out eight adjacent columns, four pairs of neurons: ReLU and rotation are its
// epilogue, one rotation serves the pair, and n and r are stored whole, 16 bytes a lane.
#include "kernels/cuda/encode_prefill.h"

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/rotation.h"

namespace bdh::cuda {

namespace {

template <class Activation, class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    encode(Sizes sizes, WeightRows<Element> encoder, const float* freqs, PrefillBuffers buffers, int layer) {
  const int head = blockIdx.z, m0 = blockIdx.y * Tile<Activation, mma>::rows,
            n0 = blockIdx.x * Tile<Activation, mma>::columns;
  const Matrix<Activation> x{static_cast<const Activation*>(buffers.x_operand), sizes.stride, buffers.rows,
                             sizes.stride};
  const Matrix<Element> rows =
      matrix_of(encoder.from(int64_t{head} * sizes.neurons), sizes.neurons, sizes.stride);
  unsigned active = 0, pairs = 0;
  product<mma, Along::k, Along::k>(
      x, rows, m0, n0, 0, sizes.stride, [&](int row, int neuron, const float(&sums)[kVector]) {
        if (row >= buffers.rows || neuron >= buffers.columns) return;
        const TokenPlace place(buffers.row[row].position, buffers.row[row].damped != 0);
        float n[kVector], r[kVector];
#pragma unroll
        for (int i = 0; i < kVector; i += 2) {
          n[i] = fmaxf(sums[i], 0.0f), n[i + 1] = fmaxf(sums[i + 1], 0.0f);
          rotate_pair<Activation>(n[i], n[i + 1], place, freqs + neuron + i, r[i], r[i + 1]);
          active += (n[i] != 0.0f) + (n[i + 1] != 0.0f);
          pairs += n[i] != 0.0f || n[i + 1] != 0.0f;
        }
        const int64_t at = (int64_t{row} * sizes.heads + head) * buffers.columns + neuron;
        store_vector(static_cast<Activation*>(buffers.n) + at, n);
        store_vector(static_cast<Activation*>(buffers.r) + at, r);
      });
  if (!buffers.counts || pairs == 0) return;
  atomicAdd(&buffers.counts[layer].n, static_cast<unsigned long long>(active));
  atomicAdd(&buffers.counts[layer].pairs, static_cast<unsigned long long>(pairs));
}

}  // namespace

static_assert(Tile<__nv_bfloat16, Mma::warp>::rows == Tile<__nv_bfloat16, Mma::warpgroup>::rows,
              "one plan of row tiles serves both");

int rows_of_tile(DType activations) {
  return activations == DType::f32 ? Tile<float, Mma::warp>::rows : Tile<__nv_bfloat16, Mma::warp>::rows;
}

void encode_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                    cudaStream_t stream) {
  const Range range("encode");
  with_mma_and_weights(buffers, packed.dtype, [&](auto activation, auto element, auto chosen) {
    using Activation = decltype(activation);
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Activation, mma>;
    const dim3 blocks(tiles(buffers.columns, T::columns), tiles(buffers.rows, T::rows),
                      static_cast<unsigned>(packed.sizes.heads));
    launch(stream, {blocks, dim3(kProductThreads), T::shared + T::template staging<Element>},
           encode<Activation, Element, mma>, packed.sizes,
           rows_of<Element>(packed.layer(layer).encoder, packed.sizes), packed.freqs.as<const float>(),
           buffers, layer);
  });
}

}  // namespace bdh::cuda
