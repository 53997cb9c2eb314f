// The logits:  logits = x lm_head
//
// Bytes: lm_head (D V elements) once for every row of logits wanted; one row a sequence is the rule. A block
// has 32 columns of the logits, its eight warps an eighth of D each, so that the columns' loads are whole and
// many are in flight; their parts are added in the order of the warps.
#include "kernels/cuda/logits.h"

#include "kernels/cuda/dispatch.h"

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

}  // namespace

void project_logits(const PackedParameters& packed, const float* x, const int32_t* rows, int count,
                    float* logits, cudaStream_t stream, bool overlap) {
  const auto columns = static_cast<unsigned>(rounded_up(packed.sizes.vocab, kWarp) / kWarp);
  const Grid grid{dim3(columns, static_cast<unsigned>(count)), dim3(kLogitThreads),
                  kLogitThreads * sizeof(float), overlap};
  with_element(packed.dtype, [&](auto element) {
    using Element = decltype(element);
    launch(stream, grid, project<Element>, packed.sizes, packed.lm_head.as<const Element>(), x, rows, logits);
  });
}

}  // namespace bdh::cuda
