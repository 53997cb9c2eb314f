// Encode in training:  n = relu(x E_h)   r = rotate(n)     dE += dn^T x   dx += sum_h dn E_h^T
//
// Flops of a head: 2 D for each of R N numbers, three times. As in encode_prefill.cu ReLU and rotation are
// the first product's epilogue; their gradients are the epilogue of what makes dr (attention_training.cu).
#include "kernels/cuda/training/encode_training.h"

#include "kernels/cuda/rotation.h"
#include "kernels/cuda/training/operands.h"
#include "kernels/cuda/training/sums.h"

namespace bdh::cuda {

namespace {

// Grid: (neuron tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) encode(TrainingPass p) {
  using T = Tile<Element, mma>;
  const int head = blockIdx.z, m0 = blockIdx.y * T::rows, n0 = blockIdx.x * T::columns;
  product<mma, Along::k, Along::k>(
      rows_of<Element>(p, p.x_rows, all_rows(p)), neurons_of<Element>(p, p.encoder, head), m0, n0, 0,
      p.sizes.stride, [&](int row, int neuron, const float(&sums)[kVector]) {
        if (row >= p.rows || neuron >= p.columns) return;
        const TokenPlace place(p.position + p.token_of(row), p.damped);
        float n[kVector], r[kVector];
#pragma unroll
        for (int i = 0; i < kVector; i += 2) {
          n[i] = fmaxf(rounded<Element>(sums[i]), 0.0f);
          n[i + 1] = fmaxf(rounded<Element>(sums[i + 1]), 0.0f);
          rotate_pair<Element>(n[i], n[i + 1], place, p.freqs + neuron + i, r[i], r[i + 1]);
        }
        const int64_t at = activation_at(p, row, head, neuron);
        store_vector(static_cast<Element*>(p.n) + at, n);
        store_vector(static_cast<Element*>(p.r) + at, r);
      });
}

}  // namespace

void encode_training(const TrainingPass& p, cudaStream_t stream) {
  const Range range("encode");
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    const dim3 blocks(tiles(p.columns, T::columns), tiles(p.rows, T::rows), static_cast<unsigned>(p.heads));
    launch(stream, {blocks, dim3(kProductThreads), T::shared}, encode<Element, mma>, p);
  });
}

void encode_gradient(const TrainingPass& p, cudaStream_t stream) {
  const Range range("encode gradient");
  add_neuron_gradient(p, p.dn, {p.x_rows, 0}, p.encoder, stream);
  multiply_neurons(p, p.dn, p.encoder, p.parts, stream);
  add_to_dx(p, {.parts = true}, stream);
}

}  // namespace bdh::cuda
