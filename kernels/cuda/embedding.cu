// The ends of the model:  x = norm(embed[token])   logits = x lm_head
//
// Bytes: D elements a row, and lm_head (D V elements) once for every row of logits wanted; one row a sequence
// is the rule. A block has 32 columns of the logits, its eight warps an eighth of D each, so that the
// columns' loads are whole and many are in flight; their parts are added in the order of the warps.
#include "kernels/cuda/embedding.h"

#include "kernels/cuda/dispatch.h"

namespace bdh::cuda {

namespace {

constexpr int kEmbedThreads = 256;

__device__ inline int token_of(const Sequence& sequence) { return sequence.token; }
__device__ inline int token_of(const ChunkRow& row) { return row.token; }

// operand may be null. Grid: rows.
template <class Activation, class Element, class Row>
__global__ void embed(Sizes sizes, const Element* table, const Row* rows, float* x, Activation* operand) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const Element* from = table + int64_t{token_of(rows[blockIdx.x])} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) row[d] = to_float(from[d]);
  __syncthreads();
  block_norm(row, sizes.width, row + sizes.stride);
  const int64_t at = int64_t{blockIdx.x} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) {
    x[at + d] = row[d];
    if (operand) operand[at + d] = from_float<Activation>(row[d]);
  }
}

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

template <class Row>
void start(const PackedParameters& packed, const Row* rows, int count, float* x, DType activations,
           void* operand, cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(count)), dim3(kEmbedThreads),
                  row_shared(packed.sizes, kEmbedThreads)};
  with_chunk_types(activations, packed.dtype, [&](auto activation, auto element) {
    using Activation = decltype(activation);
    using Element = decltype(element);
    launch(stream, grid, embed<Activation, Element, Row>, packed.sizes, packed.embed.as<const Element>(),
           rows, x, static_cast<Activation*>(operand));
  });
}

}  // namespace

void embed_step(const PackedParameters& packed, const StepBuffers& buffers, cudaStream_t stream) {
  start(packed, buffers.sequences, buffers.count, buffers.x, DType::f32, nullptr, stream);
}

void embed_chunk(const PackedParameters& packed, const ChunkBuffers& buffers, cudaStream_t stream) {
  start(packed, buffers.row, buffers.rows, buffers.x, buffers.activations, buffers.x_operand, stream);
}

void project_logits(const PackedParameters& packed, const float* x, const int32_t* rows, int count,
                    float* logits, cudaStream_t stream, bool early) {
  const auto columns = static_cast<unsigned>(rounded_up(packed.sizes.vocab, kWarp) / kWarp);
  const Grid grid{dim3(columns, static_cast<unsigned>(count)), dim3(kEmbedThreads),
                  kEmbedThreads * sizeof(float), early};
  with_element(packed.dtype, [&](auto element) {
    using Element = decltype(element);
    launch(stream, grid, project<Element>, packed.sizes, packed.lm_head.as<const Element>(), x, rows, logits);
  });
}

}  // namespace bdh::cuda
