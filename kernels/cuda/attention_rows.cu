// Softmax-free attention of a batch, one token a sequence, with r from the dense encode:
//     a = r S   S += r^T x   attended = norm(a)
//
// Bytes of a layer and sequence: 8 for each number of an active row of S, which is read once and written
// once; r and x are small beside it. A block has a part of a head's neurons, a warp eight rows at a time,
// four of them in flight; as many parts as attention_chunk makes, so that its last kernel adds them up and
// norms.
#include "kernels/cuda/attention_rows.h"

#include "kernels/cuda/attention_chunk.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/recall.h"

namespace bdh::cuda {

namespace {

constexpr int kParts = 1 + kSplits;

// Grid: (kParts, heads, rows).
template <class Activation, int Vectors>
__global__ void __launch_bounds__(kStepThreads) recall_row(Sizes sizes, ChunkBuffers buffers, int layer) {
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (warps, stride)
  const int head = blockIdx.y, row = blockIdx.z, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int share = (sizes.neurons + kParts * kTogether - 1) / (kParts * kTogether) * kTogether;
  const int begin = static_cast<int>(blockIdx.x) * share, end = min(begin + share, sizes.neurons);
  float* s = buffers.segment[row].s + (layer * sizes.rows() + int64_t{head} * sizes.neurons) * sizes.stride;
  const Activation* r =
      static_cast<const Activation*>(buffers.r) + (int64_t{row} * sizes.heads + head) * buffers.columns;
  LaneRow<Vectors> x, a = {};
  load_lanes(buffers.x + int64_t{row} * sizes.stride, lane, sizes.stride, x);
  for (int first = begin + warp * kTogether; first < end; first += kStepWarps * kTogether) {
#pragma unroll
    for (int half = 0; half < kTogether; half += 4) {
      float four[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) four[i] = first + half + i < end ? to_float(r[first + half + i]) : 0.0f;
      recall_and_add(s + int64_t{first + half} * sizes.stride, four, lane, sizes.stride, x, a);
    }
  }
  store_lanes(parts + warp * sizes.stride, lane, sizes.stride, a);
  __syncthreads();
  const int64_t part = int64_t{blockIdx.x} * sizes.heads + head;
  add_warps(parts, sizes.stride, buffers.attention + (part * buffers.rows + row) * sizes.stride);
}

}  // namespace

void attention_rows(const PackedParameters& packed, const ChunkBuffers& buffers, int layer,
                    cudaStream_t stream) {
  const Range range("attention");
  const Sizes& sizes = packed.sizes;
  const Grid grid{dim3(kParts, static_cast<unsigned>(sizes.heads), static_cast<unsigned>(buffers.rows)),
                  dim3(kStepThreads), step_shared(sizes)};
  with_element(buffers.activations, [&](auto activation) {
    with_vectors(sizes.stride, [&](auto vectors) {
      launch(stream, grid, recall_row<decltype(activation), decltype(vectors)::value>, sizes, buffers, layer);
    });
  });
  combine_attention(packed, buffers, stream);
}

}  // namespace bdh::cuda
