// The embedding:  x = norm(embed[token]), a block a row. Bytes: D elements a row.
#include "kernels/cuda/embedding.h"

#include "kernels/cuda/dispatch.h"

namespace bdh::cuda {

namespace {

constexpr int kEmbedThreads = 256;

__device__ inline int token_of(const Sequence& sequence) { return sequence.token; }
__device__ inline int token_of(const PrefillRow& row) { return row.token; }

// operand may be null. Grid: rows.
template <class Activation, class Element, class Row>
__global__ void embed(Sizes sizes, WeightRows<Element> table, const Row* rows, float* x,
                      Activation* operand) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const int token = token_of(rows[blockIdx.x]);
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) row[d] = table.number(token, d);
  __syncthreads();
  block_norm(row, sizes.width, row + sizes.stride);
  const int64_t at = int64_t{blockIdx.x} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) {
    x[at + d] = row[d];
    if (operand) operand[at + d] = from_float<Activation>(row[d]);
  }
}

template <class Activation, class Element, class Row>
void embed_rows(const PackedParameters& packed, const Row* rows, int count, float* x, void* operand,
                cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(count)), dim3(kEmbedThreads),
                  row_shared(packed.sizes, kEmbedThreads)};
  launch(stream, grid, embed<Activation, Element, Row>, packed.sizes,
         rows_of<Element>(packed.embed, packed.sizes), rows, x, static_cast<Activation*>(operand));
}

}  // namespace

void embed_decode(const PackedParameters& packed, const DecodeBuffers& buffers, cudaStream_t stream) {
  with_weights(packed.dtype, [&](auto element) {
    embed_rows<float, decltype(element)>(packed, buffers.sequences, buffers.count, buffers.x, nullptr,
                                         stream);
  });
}

void embed_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream) {
  with_prefill_types(buffers.activations, packed.dtype, [&](auto activation, auto element) {
    embed_rows<decltype(activation), decltype(element)>(packed, buffers.row, buffers.rows, buffers.x,
                                                        buffers.x_operand, stream);
  });
}

}  // namespace bdh::cuda
