// Softmax-free attention of a batch, one token a sequence, with r from the dense encode:
//     a = r S   S += r^T x   attended = norm(a)
//
// Bytes of a layer and sequence: 8 for each number of an active row of S, which is read once and written
// once; r and x are small beside it. A block has a part of a head's neurons, a warp 32 rows at a time, of
// which six active ones are in flight while the next 32 of r come; as many parts as attention_prefill makes,
// so that its last kernel adds them up and norms.
#include "kernels/cuda/attention_rows.h"

#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/damping.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/readout.h"

namespace bdh::cuda {

namespace {

constexpr int kParts = 1 + kSplits;

// Grid: (kParts, heads, rows).
template <class Activation, int Vectors>
__global__ void __launch_bounds__(kDecodeThreads)
    readout_row(Sizes sizes, PrefillBuffers buffers, int layer) {
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (warps, stride)
  const int head = blockIdx.y, row = blockIdx.z, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int share = static_cast<int>(rounded_up((sizes.neurons + kParts - 1) / kParts, kWarp));
  const int begin = static_cast<int>(blockIdx.x) * share, end = min(begin + share, sizes.neurons);
  float* s = buffers.segment[row].s + (layer * sizes.rows() + int64_t{head} * sizes.neurons) * sizes.stride;
  const Activation* r =
      static_cast<const Activation*>(buffers.r) + (int64_t{row} * sizes.heads + head) * buffers.columns;
  const float* weights = weights_of(buffers, buffers.segment[row], head);
  const Scales scales{1.0f,
                      weights ? scales_at(weights).update : 1.0f};  // combine_attention has the readout's
  const auto own_r = [&](int first) { return first + lane < end ? to_float(r[first + lane]) : 0.0f; };
  LaneRow<Vectors> x, a = {};
  load_lanes(buffers.x + int64_t{row} * sizes.stride, lane, sizes.stride, x);
  float own = own_r(begin + warp * kWarp);
  for (int first = begin + warp * kWarp; first < end; first += kDecodeWarps * kWarp) {
    const float next = own_r(first + kDecodeWarps * kWarp);
    read_and_update(s + int64_t{first} * sizes.stride, own, scales, lane, sizes.stride, x, a);
    own = next;
  }
  store_lanes(parts + warp * sizes.stride, lane, sizes.stride, a);
  __syncthreads();
  const int64_t part = int64_t{blockIdx.x} * sizes.heads + head;
  add_warps(parts, sizes.stride, buffers.attention + (part * buffers.rows + row) * sizes.stride);
}

}  // namespace

void attention_rows(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                    cudaStream_t stream) {
  const Range range("attention");
  const Sizes& sizes = packed.sizes;
  const Grid grid{dim3(kParts, static_cast<unsigned>(sizes.heads), static_cast<unsigned>(buffers.rows)),
                  dim3(kDecodeThreads), decode_shared(sizes)};
  with_element(buffers.activations, [&](auto activation) {
    with_vectors(sizes.stride, [&](auto vectors) {
      launch(stream, grid, readout_row<decltype(activation), decltype(vectors)::value>, sizes, buffers,
             layer);
    });
  });
  combine_attention(packed, buffers, stream);
}

}  // namespace bdh::cuda
