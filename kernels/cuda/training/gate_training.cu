// The gate and the residual in training:
//     v = relu(attended_h Ev_h), dropped out   g = n v   mixed = sum_h g decoder   z = x + norm(mixed)
//     dg = dmixed decoder^T   dv = dg n   dn = dg v   ddecoder += g^T dmixed   dEv += dv^T attended
//
// Flops of a head: 2 D for each of R N numbers, twice forwards and four times more backwards. Forwards v is
// never stored; backwards it is, and what dg is needed for is the epilogue of the product that makes it.
// norm(mixed) is not kept: it is what the kept numbers make of x and the next layer's, (z - mean) scale.
#include "kernels/cuda/training/gate_training.h"

#include "kernels/cuda/training/dropout.h"
#include "kernels/cuda/training/operands.h"
#include "kernels/cuda/training/rows.h"
#include "kernels/cuda/training/sums.h"

namespace bdh::cuda {

namespace {

// Grid: rows.
template <class Element>
__global__ void take_rows(TrainingPass p) {
  const int row = blockIdx.x, stride = p.sizes.stride;
  const float* x = p.x_of(p.layer) + p.batch_row(row) * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x)
    static_cast<Element*>(p.x_rows)[int64_t{row} * stride + d] = from_float<Element>(x[d]);
}

// Grid: rows.
template <class Element>
__global__ void mixed_gradient(TrainingPass p) {
  auto* d_row = reinterpret_cast<float*>(shared_memory());
  const int row = blockIdx.x, stride = p.sizes.stride;
  const int64_t batch_row = p.batch_row(row), at = int64_t{p.layer} * p.batch_rows() + batch_row;
  const float *x = p.x_of(p.layer) + batch_row * stride, *z = p.x_of(p.layer + 1) + batch_row * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) d_row[d] = p.dx[batch_row * stride + d];
  __syncthreads();
  block_norm_gradient(
      d_row, [&](int d) { return z[d]; }, p.z_scale[at], p.sizes.width, d_row + stride);
  const float deviation = 1.0f / p.z_scale[at], mean = p.z_mean[at];
  block_norm_gradient(
      d_row, [&](int d) { return z[d] * deviation + mean - x[d]; }, p.y_scale[at], p.sizes.width,
      d_row + stride);
  for (int d = threadIdx.x; d < stride; d += blockDim.x)
    static_cast<Element*>(p.dmixed)[int64_t{row} * stride + d] = from_float<Element>(d_row[d]);
}

// v of eight neurons.
template <class Element>
__device__ inline void gate_values(const TrainingPass& p, int row, int head, int neuron,
                                   const float (&sums)[kVector], float (&v)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = fmaxf(rounded<Element>(sums[i]), 0.0f);
  if (p.dropped) drop(p, row, head, neuron, v);
}

// Grid: (neuron tiles, row tiles, heads). keeps: v is stored; else g is, in the place of n.
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) gate(TrainingPass p, bool keeps) {
  using T = Tile<Element, mma>;
  const int head = blockIdx.z;
  product<mma, Along::k, Along::k>(head_rows_of<Element>(p, p.attended, all_rows(p), head),
                                   neurons_of<Element>(p, p.encoder_v, head), blockIdx.y * T::rows,
                                   blockIdx.x * T::columns, 0, p.sizes.stride,
                                   [&](int row, int neuron, const float(&sums)[kVector]) {
                                     if (row >= p.rows || neuron >= p.columns) return;
                                     const int64_t at = activation_at(p, row, head, neuron);
                                     float v[kVector];
                                     gate_values<Element>(p, row, head, neuron, sums, v);
                                     if (keeps) return store_vector(static_cast<Element*>(p.v) + at, v);
                                     float g[kVector];
                                     load_vector(static_cast<const Element*>(p.n) + at, g);
#pragma unroll
                                     for (int i = 0; i < kVector; ++i) g[i] *= v[i];
                                     store_vector(static_cast<Element*>(p.n) + at, g);
                                   });
}

// From dg: g in the place of v, dv and dn. Grid: (neuron tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) gated_gradient(TrainingPass p) {
  using T = Tile<Element, mma>;
  const int head = blockIdx.z;
  const float scale = p.dropped ? p.dropout.scale : 1.0f;
  product<mma, Along::k, Along::k>(
      rows_of<Element>(p, p.dmixed, all_rows(p)), neurons_of<Element>(p, p.decoder, head),
      blockIdx.y * T::rows, blockIdx.x * T::columns, 0, p.sizes.stride,
      [&](int row, int neuron, const float(&sums)[kVector]) {
        if (row >= p.rows || neuron >= p.columns) return;
        const int64_t at = activation_at(p, row, head, neuron);
        float n[kVector], v[kVector], dn[kVector];
        load_vector(static_cast<const Element*>(p.n) + at, n);
        load_vector(static_cast<const Element*>(p.v) + at, v);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const float dg = n[i] > 0.0f && v[i] > 0.0f ? sums[i] : 0.0f, g = n[i] * v[i];
          dn[i] = dg * v[i];
          n[i] = dg * n[i] * scale;
          v[i] = g;
        }
        store_vector(static_cast<Element*>(p.v) + at, v);
        store_vector(static_cast<Element*>(p.dv) + at, n);
        store_vector(static_cast<Element*>(p.dn) + at, dn);
      });
}

// Grid: rows.
template <class Element>
__global__ void residual(TrainingPass p) {
  auto* sum = reinterpret_cast<float*>(shared_memory());
  const int row = blockIdx.x, stride = p.sizes.stride;
  const int64_t batch_row = p.batch_row(row), at = int64_t{p.layer} * p.batch_rows() + batch_row;
  const int64_t all = int64_t{p.rows} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    float total = 0;
    for (int i = 0; i < p.sizes.heads * kSplits; ++i) total += p.mixed[i * all + int64_t{row} * stride + d];
    sum[d] = rounded<Element>(total);
  }
  __syncthreads();
  const float* x = p.x_of(p.layer) + batch_row * stride;
  float* next = p.x_of(p.layer + 1) + batch_row * stride;
  const RowNorm y = block_norm(sum, p.sizes.width, sum + stride);
  for (int d = threadIdx.x; d < p.sizes.width; d += blockDim.x) sum[d] += x[d];
  __syncthreads();
  const RowNorm z = block_norm(sum, p.sizes.width, sum + stride);
  for (int d = threadIdx.x; d < stride; d += blockDim.x) next[d] = sum[d];
  if (threadIdx.x > 0) return;
  p.y_scale[at] = y.scale;
  p.z_mean[at] = z.mean;
  p.z_scale[at] = z.scale;
}

// Grid: rows of the micro-batch.
__global__ void residual_gradient(TrainingPass p) {
  auto* d_row = reinterpret_cast<float*>(shared_memory());
  const int stride = p.sizes.stride;
  const int64_t row = blockIdx.x;
  const float* z = p.x_of(p.layer + 1) + row * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) d_row[d] = p.dx[row * stride + d];
  __syncthreads();
  block_norm_gradient(
      d_row, [&](int d) { return z[d]; }, p.z_scale[int64_t{p.layer} * p.batch_rows() + row], p.sizes.width,
      d_row + stride);
  for (int d = threadIdx.x; d < stride; d += blockDim.x) p.dx_next[row * stride + d] = d_row[d];
}

Grid row_grid(const TrainingPass& p, int rows) {
  const int threads = row_threads(p.sizes.stride);
  return {dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(threads)),
          row_shared(p.sizes, threads)};
}

template <class T>
Grid neuron_grid(const TrainingPass& p) {
  return {dim3(tiles(p.columns, T::columns), tiles(p.rows, T::rows), static_cast<unsigned>(p.heads)),
          dim3(kProductThreads), T::shared};
}

}  // namespace

void begin_group(const TrainingPass& p, bool backward, cudaStream_t stream) {
  with_element(p.precision, [&](auto element) {
    using Element = decltype(element);
    launch(stream, row_grid(p, p.rows), take_rows<Element>, p);
    if (backward) launch(stream, row_grid(p, p.rows), mixed_gradient<Element>, p);
  });
}

void gate_training(const TrainingPass& p, cudaStream_t stream) {
  const Range range("gate");
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    launch(stream, neuron_grid<Tile<Element, mma>>(p), gate<Element, mma>, p, false);
  });
  const int64_t first = int64_t{p.first_head} * kSplits * p.rows * p.sizes.stride;
  multiply_neurons(p, p.n, p.decoder, p.mixed + first, stream);
}

void finish_group(const TrainingPass& p, cudaStream_t stream) {
  with_element(p.precision,
               [&](auto element) { launch(stream, row_grid(p, p.rows), residual<decltype(element)>, p); });
}

void begin_dx(const TrainingPass& p, cudaStream_t stream) {
  launch(stream, row_grid(p, p.batch_rows()), residual_gradient, p);
}

void gate_gradient(const TrainingPass& p, cudaStream_t stream) {
  const Range range("gate gradient");
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    launch(stream, neuron_grid<T>(p), gate<Element, mma>, p, true);
    launch(stream, neuron_grid<T>(p), gated_gradient<Element, mma>, p);
  });
  add_neuron_gradient(p, p.v, {p.dmixed, 0}, p.decoder, stream);
  add_neuron_gradient(p, p.dv, {p.attended, int64_t{p.rows} * p.sizes.stride}, p.encoder_v, stream);
}

}  // namespace bdh::cuda
