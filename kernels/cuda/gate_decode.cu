// Sparse ReLU products, one token a sequence:
//     v = relu(attended_h Ev_h)   g = n v   y = g decoder   x = norm(x + norm(y))
//
// Bytes of a layer and sequence: the Ev rows of active n and the decoder rows of active g, gathered: D
// elements each. Nothing else of the two matrices is read. Flops: two for each of those elements.
//
// A block compacts its 128 neurons of a head to the list of active ones (ballots, in the order of the
// neurons); a warp takes eight of the list at a time, so that eight rows are in flight, and gates and reads
// the decoder rows of those that stay positive before it goes on: v and g never leave the warp. In a small
// batch a block does so for a group of sequences: the list holds what is active in any of them, and a row is
// read once for all. Parts of y are added by warp, by block and by head, in that order; the last block to
// finish a head and the last head to finish do the latter two, and the residual and the norms.
#include "kernels/cuda/gate_decode.h"

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/lanes.h"

namespace bdh::cuda {

namespace {

// Sequences that share a list where lists are shared: what a warp's registers hold of x and y.
template <int Vectors>
constexpr int kSharing = Vectors < 4 ? 4 / Vectors : 1;

template <int Group>
struct ActiveList {
  int* index;             // (kBlockNeurons) neuron of the head
  float (*value)[Group];  // (kBlockNeurons) its n in each sequence
  int* count;             // of each of the kBallots

  __device__ explicit ActiveList(void* memory)
      : index(static_cast<int*>(memory)),
        value(reinterpret_cast<float (*)[Group]>(index + kBlockNeurons)),
        count(reinterpret_cast<int*>(value + kBlockNeurons)) {}
};

constexpr int kBallots = kBlockNeurons / kWarp;
static_assert(kBallots <= kDecodeWarps, "a warp makes one ballot");

constexpr size_t list_bytes(int group) {
  return ((1 + static_cast<size_t>(group)) * kBlockNeurons + kBallots) * sizeof(int);
}

// The sequences of a block: [first, first + count).
struct Members {
  int first, count;
};

// The block's neurons that are active in any of its sequences, in order; returns how many there are. Called
// by all threads.
template <int Group>
__device__ inline int compact(const Sizes& sizes, const DecodeBuffers& buffers, const DecodeBlock& place,
                              const Members& members, const ActiveList<Group>& list) {
  const int neuron = place.begin + place.warp * kWarp + place.lane;
  const bool own = place.warp < kBallots && neuron < place.end;
  float value[Group];
  bool any = false;
#pragma unroll
  for (int g = 0; g < Group; ++g) {
    value[g] = own && g < members.count ? place.n(sizes, buffers, members.first + g)[neuron] : 0.0f;
    any = any || value[g] != 0.0f;
  }
  const unsigned active = __ballot_sync(kAllLanes, any);
  if (place.warp < kBallots && place.lane == 0) list.count[place.warp] = __popc(active);
  __syncthreads();
  int before = 0, total = 0;
  for (int i = 0; i < kBallots; ++i) {
    before += i < place.warp ? list.count[i] : 0;
    total += list.count[i];
  }
  if (any) {
    const int at = before + __popc(active & ((1u << place.lane) - 1));
    list.index[at] = neuron;
#pragma unroll
    for (int g = 0; g < Group; ++g) list.value[at][g] = value[g];
  }
  __syncthreads();
  return total;
}

// Decoder rows in flight together.
template <int Vectors>
constexpr int kGathered = Vectors < 4 ? 4 : 2;

// y[g] += factor[g][i] times the decoder's row at[i], for i below `count`. What a lane adds beyond the row's
// end is never stored.
template <int Vectors, int Group, int Rows, class Element>
__device__ inline void add_rows(const WeightRows<Element>& decoder, const int (&at)[Rows], int count,
                                const float (&factor)[Group][Rows], int lane, int stride,
                                LaneRow<Vectors> (&y)[Group]) {
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const int column = min(v * kSpan + lane * kVector, stride - kVector);
    typename WeightRows<Element>::Vector rows[Rows];
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      if (i < count) rows[i] = decoder.load(at[i], column);
    }
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      if (i >= count) continue;
      float row[kVector];
      unpack(rows[i], row);
#pragma unroll
      for (int g = 0; g < Group; ++g) {
        const float scaled = factor[g][i] * scale_of(rows[i]);
#pragma unroll
        for (int j = 0; j < kVector; ++j) y[g].value[v][j] = fmaf(scaled, row[j], y[g].value[v][j]);
      }
    }
  }
}

// Eight neurons of the list: y += g decoder. Adds to the lanes' counts of active g (each lane in four counts
// its own neuron).
template <int Vectors, int Group, class Element>
__device__ inline void gate_rows(const WeightRows<Element>& encoder_v, const WeightRows<Element>& decoder,
                                 const ActiveList<Group>& list, int first, int count, int stride, int lane,
                                 const LaneRow<Vectors> (&attended)[Group], LaneRow<Vectors> (&y)[Group],
                                 int (&gated)[Group]) {
  float sums[Group][kTogether];
  dot_rows(
      encoder_v, [&](int i) { return list.index[min(first + i, count - 1)]; }, lane, 0, stride, attended,
      sums);
  const int own = first + lane / 4;
  float gate[Group];
  bool any = false;
#pragma unroll
  for (int g = 0; g < Group; ++g) {
    const float v = fmaxf(warp_sums(sums[g]), 0.0f);
    gate[g] = own < count ? list.value[own][g] * v : 0.0f;
    gated[g] += lane % 4 == 0 && gate[g] != 0.0f;
    any = any || gate[g] != 0.0f;
  }
#pragma unroll 1
  for (unsigned left = __ballot_sync(kAllLanes, any && lane % 4 == 0); left != 0;) {
    constexpr int kRows = kGathered<Vectors>;
    int at[kRows];
    float factor[Group][kRows];
    const int gathered = min(__popc(left), kRows);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int from = left != 0 ? __ffs(static_cast<int>(left)) - 1 : 0;
      at[i] = list.index[first + from / 4];
#pragma unroll
      for (int g = 0; g < Group; ++g) factor[g][i] = __shfl_sync(kAllLanes, gate[g], from);
      left &= left - 1;
    }
    add_rows(decoder, at, gathered, factor, lane, stride, y);
  }
}

// The counts of all blocks of a sequence, added up.
__device__ inline void add_counts(const DecodeCounts* counts, int blocks, DecodeCounts* total, int* scratch) {
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
__device__ inline void finish_layer(const Sizes& sizes, const DecodeBuffers& buffers, int sequence,
                                    float* row, float* scratch) {
  add_blocks(buffers.head_sum + int64_t{sequence} * sizes.heads * sizes.stride, sizes.heads, sizes.stride,
             row);
  float* x = buffers.x + int64_t{sequence} * sizes.stride;
  block_residual(row, x, sizes.width, scratch);
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) x[d] = row[d];
}

// Blocks that share a multiprocessor, as far as registers allow without spilling.
template <class Element, int Vectors, int Group>
[[maybe_unused]] constexpr int kGateBlocks = std::is_same_v<Element, float> || Vectors > 1 ? 1
                                             : Group == 1                                  ? 3
                                             : kQuantized<Element>                         ? 1
                                                                                           : 2;

// Grid: (blocks of a head, heads, groups of sequences).
template <class Element, int Vectors, int Group>
__global__ void __launch_bounds__(kDecodeThreads, kGateBlocks<Element, Vectors, Group>)
    gate(Sizes sizes, WeightRows<Element> encoder_v, WeightRows<Element> decoder, DecodeBuffers buffers,
         int layer) {
  follow_previous();
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (warps, stride)
  float* scratch = parts + kDecodeWarps * sizes.stride;     // (warps)
  const ActiveList<Group> list(scratch + kDecodeWarps);
  const DecodeBlock place(sizes);
  const int group = blockIdx.z;
  const Members members{group * Group, min(Group, buffers.count - group * Group)};
  LaneRow<Vectors> attended[Group] = {}, y[Group] = {};
#pragma unroll
  for (int g = 0; g < Group; ++g) {
    if (g < members.count)
      load_lanes(place.row(sizes, buffers.attended, members.first + g), place.lane, sizes.stride,
                 attended[g]);
  }
  const int count = compact(sizes, buffers, place, members, list);
  int gated[Group] = {};
#pragma unroll 1
  for (int first = place.warp * kTogether; first < count; first += kDecodeWarps * kTogether) {
    gate_rows(encoder_v.from(place.first_row), decoder.from(place.first_row), list, first, count,
              sizes.stride, place.lane, attended, y, gated);
  }
#pragma unroll
  for (int g = 0; g < Group; ++g) {
    if (g >= members.count) continue;
    const int sequence = members.first + g;
    store_lanes(parts + place.warp * sizes.stride, place.lane, sizes.stride, y[g]);
    const int all = block_sum(gated[g], reinterpret_cast<int*>(scratch));
    if (threadIdx.x == 0) place.counts(sizes, buffers, sequence).g = all;
    __syncthreads();
    add_warps(parts, sizes.stride,
              place.parts(sizes, buffers, sequence) + int64_t{place.block} * sizes.stride);
    __syncthreads();
  }

  unsigned* arrived = buffers.arrived + int64_t{group} * (sizes.heads + 1);
  auto* flag = reinterpret_cast<unsigned*>(scratch);
  if (!arrives_last(arrived + place.head, place.blocks, flag)) return;
  for (int sequence = members.first; sequence < members.first + members.count; ++sequence) {
    add_blocks(place.parts(sizes, buffers, sequence), place.blocks, sizes.stride, parts);
    float* head_sum = place.row(sizes, buffers.head_sum, sequence);
    for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) head_sum[d] = parts[d];
    __syncthreads();
  }
  if (!arrives_last(arrived + sizes.heads, sizes.heads, flag)) return;
  const int all = place.blocks * sizes.heads;
  for (int sequence = members.first; sequence < members.first + members.count; ++sequence) {
    finish_layer(sizes, buffers, sequence, parts, scratch);
    add_counts(buffers.counts + int64_t{sequence} * all, all,
               buffers.totals + layer * buffers.count + sequence, reinterpret_cast<int*>(scratch));
  }
}

template <class Element, int Vectors, int Group>
void start(const PackedParameters& packed, const DecodeBuffers& buffers, int layer, cudaStream_t stream) {
  const Sizes& sizes = packed.sizes;
  const int groups = (buffers.count + Group - 1) / Group;
  launch(stream,
         {decode_grid(sizes, groups), dim3(kDecodeThreads), decode_shared(sizes) + list_bytes(Group),
          buffers.overlap},
         gate<Element, Vectors, Group>, sizes, rows_of<Element>(packed.layer(layer).encoder_v, sizes),
         rows_of<Element>(packed.layer(layer).decoder, sizes), buffers, layer);
}

}  // namespace

void gate_decode(const PackedParameters& packed, const DecodeBuffers& buffers, int layer,
                 cudaStream_t stream) {
  with_weights(packed.dtype, [&](auto element) {
    with_vectors(packed.sizes.stride, [&](auto width) {
      using Element = decltype(element);
      constexpr int kVectors = decltype(width)::value;
      (buffers.shared_lists ? start<Element, kVectors, kSharing<kVectors>>
                            : start<Element, kVectors, 1>)(packed, buffers, layer, stream);
    });
  });
}

}  // namespace bdh::cuda
