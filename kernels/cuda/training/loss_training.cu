// Embedding and loss in training:
//     x = norm(embed[token])   logits = x lm_head   loss = log(sum exp logits) - logits[target]
//     dlogits = (softmax - one(target)) loss_scale   dx = dlogits lm_head^T   dlm_head += x^T dlogits
//
// Flops: 2 D V for each row, three times. Logits are made for some rows at a time and become their gradient,
// so that their memory does not grow with the micro-batch. A row of the embedding is added up by one block,
// in the order of the rows that its token stands at.
#include "kernels/cuda/training/loss_training.h"

#include "kernels/cuda/training/operands.h"
#include "kernels/cuda/training/rows.h"
#include "kernels/cuda/training/sums.h"

namespace bdh::cuda {

namespace {

constexpr int kLossThreads = 256;

// Grid: rows of the micro-batch.
template <class Element>
__global__ void embed(TrainingPass p) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const int stride = p.sizes.stride;
  const Element* from =
      static_cast<const Element*>(p.parameters) + p.embed + int64_t{p.inputs[blockIdx.x]} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) row[d] = to_float(from[d]);
  __syncthreads();
  block_norm(row, p.sizes.width, row + stride);
  for (int d = threadIdx.x; d < stride; d += blockDim.x) p.x[int64_t{blockIdx.x} * stride + d] = row[d];
}

// Grid: rows of the micro-batch.
template <class Element>
__global__ void embed_gradient(TrainingPass p) {
  auto* row = reinterpret_cast<float*>(shared_memory());  // (stride), and a number for each warp
  float *d_row = row + p.sizes.stride, *scratch = d_row + p.sizes.stride;
  const int stride = p.sizes.stride;
  const Element* from =
      static_cast<const Element*>(p.parameters) + p.embed + int64_t{p.inputs[blockIdx.x]} * stride;
  float* dx = p.dx + int64_t{blockIdx.x} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    row[d] = to_float(from[d]);
    d_row[d] = dx[d];
  }
  __syncthreads();
  const RowNorm norm = block_norm(row, p.sizes.width, scratch);
  block_norm_gradient(
      d_row, [&](int d) { return row[d]; }, norm.scale, p.sizes.width, scratch);
  for (int d = threadIdx.x; d < stride; d += blockDim.x) dx[d] = d_row[d];
}

// Grid: tokens that occur.
__global__ void add_embeddings(TrainingPass p) {
  const int stride = p.sizes.stride, end = p.firsts[blockIdx.x + 1];
  float* to = p.gradient + p.embed + int64_t{p.occurring[blockIdx.x]} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    float sum = 0;
    for (int i = p.firsts[blockIdx.x]; i < end; ++i) sum += p.dx[int64_t{p.order[i]} * stride + d];
    to[d] = sum;
  }
}

// x of the rows as operands. Grid: rows.
template <class Element>
__global__ void take_last_rows(TrainingPass p) {
  const int stride = p.sizes.stride;
  const float* x = p.x_of(p.sizes.layers) + int64_t{p.logit_first + static_cast<int>(blockIdx.x)} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x)
    static_cast<Element*>(p.x_rows)[int64_t{blockIdx.x} * stride + d] = from_float<Element>(x[d]);
}

template <class Element>
__device__ inline Matrix<Element> last_rows_of(const TrainingPass& p) {
  return {static_cast<const Element*>(p.x_rows), p.sizes.stride, p.logit_count, p.sizes.stride};
}
template <class Element>
__device__ inline Matrix<Element> lm_head_of(const TrainingPass& p) {
  return {static_cast<const Element*>(p.parameters) + p.lm_head, p.vocab_stride, p.sizes.width,
          p.vocab_stride};
}

// Grid: (vocabulary tiles, row tiles).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) project(TrainingPass p) {
  using T = Tile<Element, mma>;
  product<mma, Along::k, Along::other>(
      last_rows_of<Element>(p), lm_head_of<Element>(p), blockIdx.y * T::rows, blockIdx.x * T::columns, 0,
      p.sizes.stride, [&](int row, int column, const float(&sums)[kVector]) {
        if (row < p.logit_count && column < p.vocab_stride)
          store_vector(p.logits + int64_t{row} * p.vocab_stride + column, sums);
      });
}

__device__ inline float block_most(float value, float* scratch) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  __syncthreads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  for (int i = 0; i < static_cast<int>(blockDim.x) / kWarp; ++i) value = fmaxf(value, scratch[i]);
  return value;
}

// The loss of a row and, with a gradient, dlogits. Grid: rows.
template <class Element>
__global__ void softmax(TrainingPass p) {
  auto* scratch = reinterpret_cast<float*>(shared_memory());  // a number for each warp
  const int row = p.logit_first + blockIdx.x, target = p.targets[row], vocab = p.sizes.vocab;
  float* logits = p.logits + int64_t{blockIdx.x} * p.vocab_stride;
  Element* gradient = static_cast<Element*>(p.dlogits) + int64_t{blockIdx.x} * p.vocab_stride;
  if (target < 0) {
    for (int i = threadIdx.x; i < p.vocab_stride && p.gradient; i += blockDim.x)
      gradient[i] = from_float<Element>(0.0f);
    if (threadIdx.x == 0) p.losses[row] = 0;
    return;
  }
  const float wanted = rounded<Element>(logits[target]);
  float most = -INFINITY;
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) most = fmaxf(most, rounded<Element>(logits[i]));
  most = block_most(most, scratch);
  float sum = 0;
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
    const float e = expf(rounded<Element>(logits[i]) - most);
    logits[i] = e;
    sum += e;
  }
  const float total = block_sum(sum, scratch);
  if (threadIdx.x == 0)
    p.losses[row] =
        log(static_cast<double>(total)) + (static_cast<double>(most) - static_cast<double>(wanted));
  if (!p.gradient) return;
  const float factor = p.loss_scale / total;
  for (int i = threadIdx.x; i < p.vocab_stride; i += blockDim.x) {
    const float share = i < vocab ? logits[i] * factor : 0.0f;
    gradient[i] = from_float<Element>(i == target ? share - p.loss_scale : share);
  }
}

// parts (kSplits, rows, stride) of dlogits lm_head^T. Grid: (D tiles * kSplits, row tiles).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) project_back(TrainingPass p) {
  using T = Tile<Element, mma>;
  const int split = blockIdx.x % kSplits, n0 = blockIdx.x / kSplits * T::columns;
  const Share share(p.vocab_stride, kSplits, split, T::depth);
  const Matrix<Element> dlogits{static_cast<const Element*>(p.dlogits), p.vocab_stride, p.logit_count,
                                p.vocab_stride};
  float* part = p.parts + int64_t{split} * p.logit_count * p.sizes.stride;
  product<mma, Along::k, Along::k>(dlogits, lm_head_of<Element>(p), blockIdx.y * T::rows, n0, share.begin,
                                   share.end, [&](int row, int column, const float(&sums)[kVector]) {
                                     if (row < p.logit_count && column < p.sizes.stride)
                                       store_vector(part + int64_t{row} * p.sizes.stride + column, sums);
                                   });
}

// dx = the sum of the parts. Grid: rows.
__global__ void take_dx(TrainingPass p) {
  const int stride = p.sizes.stride;
  const int64_t at = int64_t{blockIdx.x} * stride, all = int64_t{p.logit_count} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    float sum = 0;
    for (int split = 0; split < kSplits; ++split) sum += p.parts[split * all + at + d];
    p.dx[int64_t{p.logit_first} * stride + at + d] = sum;
  }
}

Grid row_grid(const TrainingPass& p, int rows, int held) {
  const int threads = row_threads(p.sizes.stride);
  return {dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(threads)),
          row_shared(p.sizes, threads) + static_cast<size_t>((held - 1) * p.sizes.stride) * sizeof(float)};
}

}  // namespace

void embed_training(const TrainingPass& p, cudaStream_t stream) {
  const Range range("embedding");
  with_element(p.precision, [&](auto element) {
    launch(stream, row_grid(p, p.batch_rows(), 1), embed<decltype(element)>, p);
  });
}

void take_loss(const TrainingPass& p, cudaStream_t stream) {
  const Range range("loss");
  const int loss_threads = std::min(kLossThreads, row_threads(p.sizes.vocab));
  const Grid loss_grid{dim3(static_cast<unsigned>(p.logit_count)), dim3(static_cast<unsigned>(loss_threads)),
                       static_cast<size_t>(loss_threads / kWarp) * sizeof(float)};
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    const dim3 threads(kProductThreads);
    const unsigned rows = tiles(p.logit_count, T::rows);
    launch(stream, row_grid(p, p.logit_count, 1), take_last_rows<Element>, p);
    launch(stream, {dim3(tiles(p.vocab_stride, T::columns), rows), threads, T::shared}, project<Element, mma>,
           p);
    launch(stream, loss_grid, softmax<Element>, p);
    if (!p.gradient) return;
    launch(stream, {dim3(tiles(p.sizes.stride, T::columns) * kSplits, rows), threads, T::shared},
           project_back<Element, mma>, p);
  });
  if (!p.gradient) return;
  launch(stream, row_grid(p, p.logit_count, 1), take_dx, p);
  add_head_gradient(p, stream);
}

void embedding_gradient(const TrainingPass& p, int distinct, cudaStream_t stream) {
  const Range range("embedding gradient");
  with_element(p.precision, [&](auto element) {
    launch(stream, row_grid(p, p.batch_rows(), 2), embed_gradient<decltype(element)>, p);
  });
  launch(stream, row_grid(p, distinct, 1), add_embeddings, p);
}

}  // namespace bdh::cuda
