// Softmax-free attention, one token a sequence:
//     n = relu(x E_h)   r = rotate(n)   a = r S   S += r^T x   attended = norm(a)
//
// Bytes of a layer and sequence: E whole (2 D H N in bfloat16; it stays in the second-level cache, since
// every layer uses the same weights) and 8 bytes for each number of an active row of S, read once and written
// once. Flops: 2 D H N + 4 D times the active rows: far below the machine's rate, so the shape is chosen for
// bytes in flight.
//
// A block has 128 neurons of a head, a warp sixteen, eight at a time: eight rows of E are in flight together,
// their sums are reduced in 9 shuffles, and the lane that is left with a neuron finds its partner four lanes
// away: ReLU, rotation and the list of the active rows never leave the warp. Of that list, six rows of S are
// in flight together. x and the warp's part of a stay in registers. Parts are added in a fixed order, by warp
// and then by block; the last block of a head to finish does the latter.
#include "kernels/cuda/attention_decode.h"

#include "kernels/cuda/damping.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/readout.h"
#include "kernels/cuda/rotation.h"

namespace bdh::cuda {

namespace {

constexpr int kWarpNeurons = kBlockNeurons / kDecodeWarps;
static_assert(kWarpNeurons == 2 * kTogether);

// The r of the warp's neurons, of which lane l holds number l / 4 of each half; lane l gets number l.
__device__ inline float own_of(const float (&r)[2], int lane) {
  const float low = __shfl_sync(kAllLanes, r[0], lane % kTogether * 4),
              high = __shfl_sync(kAllLanes, r[1], lane % kTogether * 4);
  return lane < kTogether ? low : lane < kWarpNeurons ? high : 0.0f;
}

template <class Element, int Vectors>
__global__ void __launch_bounds__(kDecodeThreads)
    attend(Sizes sizes, WeightRows<Element> encoder, const float* freqs, DecodeBuffers buffers, int layer) {
  follow_previous();
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (warps, stride)
  float* scratch = parts + kDecodeWarps * sizes.stride;     // (warps)
  const DecodeBlock place(sizes);
  const int which = blockIdx.z;
  const Sequence sequence = buffers.sequences[which];
  const TokenPlace token(sequence.position, sequence.damped != 0);
  const int first = place.begin + place.warp * kWarpNeurons;
  const WeightRows<Element> rows = encoder.from(place.first_row);
  LaneRow<Vectors> x[1], a = {};
  load_lanes(buffers.x + int64_t{which} * sizes.stride, place.lane, sizes.stride, x[0]);
  int active = 0, pairs = 0;
  float r[2] = {};
#pragma unroll(Vectors < 8 ? 2 : 1)
  for (int half = 0; half < 2; ++half) {
    const int begin = first + half * kTogether, neuron = begin + place.lane / 4;
    float sums[1][kTogether];
    dot_rows(
        rows, [&](int i) { return min(begin + i, sizes.neurons - 1); }, place.lane, 0, sizes.stride, x, sums);
    const float sum = warp_sums(sums[0]), n = neuron < place.end ? fmaxf(sum, 0.0f) : 0.0f;
    const float partner = __shfl_xor_sync(kAllLanes, n, 4);
    const bool pair = n != 0.0f || partner != 0.0f, owner = place.lane % 4 == 0 && neuron < place.end;
    r[0] = r[1];
    r[1] = pair ? rotated(n, partner, neuron & 1, rotation_at(token, freqs[neuron])) : 0.0f;
    if (owner) place.n(sizes, buffers, which)[neuron] = n;
    active += owner && n != 0.0f;
    pairs += owner && pair && neuron % 2 == 0;
  }
  float* s = sequence.s + (layer * sizes.rows() + place.first_row + first) * sizes.stride;
  read_and_update(s, own_of(r, place.lane), scales_of(buffers, sequence, which, place.head), place.lane,
                  sizes.stride, x[0], a);

  store_lanes(parts + place.warp * sizes.stride, place.lane, sizes.stride, a);
  active = block_sum(active, reinterpret_cast<int*>(scratch));
  pairs = block_sum(pairs, reinterpret_cast<int*>(scratch));
  if (threadIdx.x == 0) place.counts(sizes, buffers, which) = {active, pairs, 0};
  __syncthreads();
  float* blocks = place.parts(sizes, buffers, which);
  add_warps(parts, sizes.stride, blocks + int64_t{place.block} * sizes.stride);
  unsigned* arrived = buffers.arrived + int64_t{which} * (sizes.heads + 1) + place.head;
  if (!arrives_last(arrived, place.blocks, reinterpret_cast<unsigned*>(scratch))) return;
  add_blocks(blocks, place.blocks, sizes.stride, parts);
  block_norm(parts, sizes.width, scratch);
  float* attended = place.row(sizes, buffers.attended, which);
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) attended[d] = parts[d];
}

}  // namespace

void attention_decode(const PackedParameters& packed, const DecodeBuffers& buffers, int layer,
                      cudaStream_t stream) {
  const Sizes& sizes = packed.sizes;
  const Grid grid{decode_grid(sizes, buffers.count), dim3(kDecodeThreads), decode_shared(sizes),
                  buffers.overlap};
  with_weights(packed.dtype, [&](auto element) {
    using Element = decltype(element);
    with_vectors(sizes.stride, [&](auto vectors) {
      launch(stream, grid, attend<Element, decltype(vectors)::value>, sizes,
             rows_of<Element>(packed.layer(layer).encoder, sizes), packed.freqs.as<const float>(), buffers,
             layer);
    });
  });
}

}  // namespace bdh::cuda
