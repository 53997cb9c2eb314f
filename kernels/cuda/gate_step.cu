// Sparse ReLU products, one token a sequence:
//     v = relu(attended_h Ev_h)   g = n v   y = g decoder   x = norm(x + norm(y))
//
// Bytes of a layer and sequence: the Ev rows of active n and the decoder rows of active g, gathered: D
// elements each. Nothing else of the two matrices is read. Flops: two for each of those elements.
//
// A block compacts its 128 neurons of a head to the list of active ones (ballots, in the order of the
// neurons); a warp takes eight of the list at a time, so that eight rows are in flight, and gates and reads
// the decoder rows of those that stay positive before it goes on: v and g never leave the warp. Parts of y
// are added by warp, by block and by head, in that order; the last block to finish a head and the last head
// to finish do the latter two, and the residual and the norms.
#include "kernels/cuda/gate_step.h"

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/lanes.h"

namespace bdh::cuda {

namespace {

struct ActiveList {
  int* index;    // (kBlockNeurons) neuron of the head
  float* value;  // (kBlockNeurons) its n
  int* count;    // of each of the kBlockNeurons / 32 ballots
};

__device__ inline ActiveList active_list(unsigned char* memory) {
  auto* index = reinterpret_cast<int*>(memory);
  auto* value = reinterpret_cast<float*>(index + kBlockNeurons);
  return {index, value, reinterpret_cast<int*>(value + kBlockNeurons)};
}

constexpr int kBallots = kBlockNeurons / kWarp;
constexpr size_t kListBytes = (2 * kBlockNeurons + kBallots) * sizeof(int);
static_assert(kBallots <= kStepWarps, "a warp makes one ballot");

// The block's active neurons, in order; returns how many there are. Called by all threads.
__device__ inline int compact(const StepPlace& place, const float* n, const ActiveList& list) {
  const int neuron = place.begin + place.warp * kWarp + place.lane;
  const float value = place.warp < kBallots && neuron < place.end ? n[neuron] : 0.0f;
  const unsigned active = __ballot_sync(kAllLanes, value != 0.0f);
  if (place.warp < kBallots && place.lane == 0) list.count[place.warp] = __popc(active);
  __syncthreads();
  int before = 0, total = 0;
  for (int i = 0; i < kBallots; ++i) {
    before += i < place.warp ? list.count[i] : 0;
    total += list.count[i];
  }
  if (value != 0.0f) {
    const int at = before + __popc(active & ((1u << place.lane) - 1));
    list.index[at] = neuron;
    list.value[at] = value;
  }
  __syncthreads();
  return total;
}

// Eight neurons of the list: y += g decoder. Returns the lanes' count of active g (each counts its own neuron
// once).
template <int Vectors, class Element>
__device__ inline int gate_rows(const Element* encoder_v, const Element* decoder, const ActiveList& list,
                                int first, int count, int stride, int lane, const LaneRow<Vectors>& attended,
                                LaneRow<Vectors>& y) {
  float sums[kTogether];
#pragma unroll
  for (int i = 0; i < kTogether; ++i) {
    sums[i] = 0.0f;
    if (first + i >= count) continue;
    LaneRow<Vectors> row;
    load_lanes(encoder_v + int64_t{list.index[first + i]} * stride, lane, stride, row);
    sums[i] = lane_dot(row, attended);
  }
  const float v = fmaxf(warp_sums(sums), 0.0f);
  const int own = first + lane / 4;
  const float g = own < count ? list.value[own] * v : 0.0f;
#pragma unroll
  for (int i = 0; i < kTogether; ++i) {
    const float scale = __shfl_sync(kAllLanes, g, 4 * i);
    if (scale == 0.0f) continue;
    LaneRow<Vectors> row;
    load_lanes(decoder + int64_t{list.index[first + i]} * stride, lane, stride, row);
#pragma unroll
    for (int w = 0; w < Vectors; ++w) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) y.value[w][j] = fmaf(scale, row.value[w][j], y.value[w][j]);
    }
  }
  return lane % 4 == 0 && g != 0.0f;
}

// The counts of all blocks of a sequence, added up.
__device__ inline void add_counts(const StepCounts* counts, int blocks, StepCounts* total, int* scratch) {
  int n = 0, pairs = 0, g = 0;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) {
    n += __ldcg(&counts[i].n);
    pairs += __ldcg(&counts[i].pairs);
    g += __ldcg(&counts[i].g);
  }
  n = block_sum(n, scratch);
  pairs = block_sum(pairs, scratch);
  g = block_sum(g, scratch);
  if (threadIdx.x == 0) *total = {n, pairs, g};
}

// x = norm(x + norm(y)), y being the sum of the heads' parts. The last block of a sequence does it.
__device__ inline void finish_layer(const Sizes& sizes, const StepBuffers& buffers, int sequence, float* row,
                                    float* scratch) {
  add_blocks(buffers.head_sum + int64_t{sequence} * sizes.heads * sizes.stride, sizes.heads, sizes.stride,
             row);
  block_norm(row, sizes.width, scratch);
  float* x = buffers.x + int64_t{sequence} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) row[d] += x[d];
  __syncthreads();
  block_norm(row, sizes.width, scratch);
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) x[d] = row[d];
}

template <class Element, int Vectors>
__global__ void __launch_bounds__(kStepThreads)
    gate(Sizes sizes, const Element* encoder_v, const Element* decoder, StepBuffers buffers, int layer) {
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (warps, stride)
  float* scratch = parts + kStepWarps * sizes.stride;       // (warps)
  const ActiveList list = active_list(reinterpret_cast<unsigned char*>(scratch + kStepWarps));
  const StepPlace place(sizes);
  LaneRow<Vectors> attended, y = {};
  load_lanes(buffers.attended + int64_t{place.sequence_head} * sizes.stride, place.lane, sizes.stride,
             attended);
  const int count = compact(place, buffers.n + place.first_neuron, list);
  const int64_t head_rows = place.first_row * sizes.stride;
  int gated = 0;
  for (int first = place.warp * kTogether; first < count; first += kStepWarps * kTogether) {
    gated += gate_rows(encoder_v + head_rows, decoder + head_rows, list, first, count, sizes.stride,
                       place.lane, attended, y);
  }
  store_lanes(parts + place.warp * sizes.stride, place.lane, sizes.stride, y);
  gated = block_sum(gated, reinterpret_cast<int*>(scratch));
  if (threadIdx.x == 0) place.counts(buffers).g = gated;
  __syncthreads();
  add_warps(parts, sizes.stride, place.partial(sizes, buffers));

  unsigned* arrived = buffers.arrived + int64_t{place.sequence} * (sizes.heads + 1);
  auto* flag = reinterpret_cast<unsigned*>(scratch);
  if (!arrives_last(arrived + place.head, place.blocks, flag)) return;
  add_blocks(place.head_parts(sizes, buffers), place.blocks, sizes.stride, parts);
  float* head_sum = buffers.head_sum + int64_t{place.sequence_head} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) head_sum[d] = parts[d];
  if (!arrives_last(arrived + sizes.heads, sizes.heads, flag)) return;
  finish_layer(sizes, buffers, place.sequence, parts, scratch);
  const int all = place.blocks * sizes.heads;
  add_counts(buffers.counts + int64_t{place.sequence} * all, all,
             buffers.totals + layer * buffers.count + place.sequence, reinterpret_cast<int*>(scratch));
}

}  // namespace

void gate_step(const PackedParameters& packed, const StepBuffers& buffers, int layer, cudaStream_t stream) {
  const Sizes& sizes = packed.sizes;
  const Grid grid{step_blocks(sizes, buffers.count), dim3(kStepThreads), step_shared(sizes) + kListBytes};
  with_element(packed.dtype, [&](auto element) {
    using Element = decltype(element);
    with_vectors(sizes.stride, [&](auto vectors) {
      launch(stream, grid, gate<Element, decltype(vectors)::value>, sizes,
             packed.encoder_v.as<const Element>(), packed.decoder.as<const Element>(), buffers, layer);
    });
  });
}

}  // namespace bdh::cuda
