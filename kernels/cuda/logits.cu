// The logits:  logits = x lm_head
//
// Bytes: lm_head (D V elements) once for every row of logits wanted; one row a sequence is the rule. A block
// has 32 columns of the logits, its eight warps an eighth of D each, so that the columns' loads are whole and
// many are in flight; their parts are added in the order of the warps. Quantized, lm_head is rows of D, of
// which a warp takes eight at a time.
#include "kernels/cuda/logits.h"

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/lanes.h"

namespace bdh::cuda {

namespace {

constexpr int kLogitThreads = 256;

// Grid: (V / 32, rows).
template <class Element>
__global__ void project(Sizes sizes, const Element* lm_head, const float* x, const int32_t* rows,
                        float* logits) {
  follow_previous();
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (warps, 32)
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int column = blockIdx.x * kWarp + lane, share = (sizes.width + warps - 1) / warps;
  const float* from = x + int64_t{rows ? rows[blockIdx.y] : static_cast<int>(blockIdx.y)} * sizes.stride;
  float sum = 0;
  if (column < sizes.vocab) {
    const int end = min((warp + 1) * share, sizes.width);
#pragma unroll 16
    for (int d = warp * share; d < end; ++d)
      sum = fmaf(from[d], to_float(lm_head[int64_t{d} * sizes.vocab + column]), sum);
  }
  parts[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || column >= sizes.vocab) return;
  float total = 0;
  for (int w = 0; w < warps; ++w) total += parts[w * kWarp + lane];
  logits[int64_t{blockIdx.y} * sizes.vocab + column] = total;
}

constexpr int kRowThreads = 2 * kWarp;  // few, so that a small vocabulary still has many blocks
constexpr int kRowLogits = kRowThreads / kWarp * kTogether;

// Grid: (V / kRowLogits, rows).
template <class Element>
__global__ void project_rows(Sizes sizes, WeightRows<Element> lm_head, const float* x, const int32_t* rows,
                             float* logits) {
  follow_previous();
  const int lane = threadIdx.x % kWarp;
  const int first = (blockIdx.x * kRowThreads + threadIdx.x) / kWarp * kTogether;
  const float* from = x + int64_t{rows ? rows[blockIdx.y] : static_cast<int>(blockIdx.y)} * sizes.stride;
  float sums[kTogether] = {};
  for (int column = 0; column < sizes.stride; column += kSpan) {
    LaneRow<1> part[1];
    float more[1][kTogether];
    load_lanes(from + column, lane, sizes.stride - column, part[0]);
    dot_rows(
        lm_head, [&](int i) { return min(first + i, sizes.vocab - 1); }, lane, column, sizes.stride, part,
        more);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) sums[i] += more[0][i];
  }
  const float sum = warp_sums(sums);
  const int logit = first + lane / 4;
  if (lane % 4 == 0 && logit < sizes.vocab) logits[int64_t{blockIdx.y} * sizes.vocab + logit] = sum;
}

}  // namespace

void project_logits(const PackedParameters& packed, const float* x, const int32_t* rows, int count,
                    float* logits, cudaStream_t stream, bool overlap) {
  const Sizes& sizes = packed.sizes;
  const auto blocks = [&](int columns) {
    return dim3(static_cast<unsigned>(rounded_up(sizes.vocab, columns) / columns),
                static_cast<unsigned>(count));
  };
  with_weights(packed.dtype, [&](auto element) {
    using Element = decltype(element);
    if constexpr (kQuantized<Element>) {
      launch(stream, {blocks(kRowLogits), dim3(kRowThreads), 0, overlap}, project_rows<Element>, sizes,
             rows_of<Element>(packed.lm_head, sizes), x, rows, logits);
    } else {
      launch(stream, {blocks(kWarp), dim3(kLogitThreads), kLogitThreads * sizeof(float), overlap},
             project<Element>, sizes, packed.lm_head.values.as<const Element>(), x, rows, logits);
    }
  });
}

}  // namespace bdh::cuda
