// One pass over planes each. Bytes: of AdamW 28 for each parameter, of the others 12 or fewer. Products and
// sums are rounded one by one, as PyTorch's and the CPU's are: nothing may be contracted here.
#include "kernels/cuda/training/optimizer.h"

#include <algorithm>

#include "kernels/cuda/dispatch.h"

namespace bdh::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostPlaneBlocks = 2048;

__device__ inline int64_t first_element() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline int64_t all_threads() { return int64_t{gridDim.x} * blockDim.x; }

Grid plane_grid(int64_t count) {
  const int64_t blocks = std::clamp<int64_t>((count + kThreads - 1) / kThreads, 1, kMostPlaneBlocks);
  return {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)};
}

__global__ void add(float* sum, const float* part, int64_t count) {
  for (int64_t i = first_element(); i < count; i += all_threads()) sum[i] += part[i];
}

__global__ void blend(float* average, const float* from, float decay, float rest, int64_t count) {
  for (int64_t i = first_element(); i < count; i += all_threads())
    average[i] = __fadd_rn(__fmul_rn(average[i], decay), __fmul_rn(from[i], rest));
}

__global__ void square(const float* plane, int64_t count, double* sums) {
  auto* scratch = reinterpret_cast<double*>(shared_memory());
  double sum = 0;
  for (int64_t i = first_element(); i < count; i += all_threads()) {
    const double value = plane[i];
    sum += value * value;
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void update(AdamWNumbers step, int64_t count, const float* gradient, float* parameters,
                       float* exp_avg, float* exp_avg_sq) {
  for (int64_t i = first_element(); i < count; i += all_threads()) {
    const float g = __fmul_rn(gradient[i], step.gradient_scale), m = exp_avg[i];
    const float mean = fmaf(step.beta1_rest, __fsub_rn(g, m), m);
    const float squares = fmaf(__fmul_rn(step.beta2_rest, g), g, __fmul_rn(exp_avg_sq[i], step.beta2));
    const float root = __fdiv_rn(__fsqrt_rn(squares), step.root_correction);
    exp_avg[i] = mean;
    exp_avg_sq[i] = squares;
    parameters[i] = __fsub_rn(__fmul_rn(parameters[i], step.keep),
                              __fdiv_rn(__fmul_rn(step.rate, mean), __fadd_rn(root, step.epsilon)));
  }
}

template <class Element>
__global__ void round(const float* from, int64_t count, Element* to) {
  for (int64_t i = first_element(); i < count; i += all_threads()) to[i] = from_float<Element>(from[i]);
}

}  // namespace

int square_parts(int64_t count) {
  return static_cast<int>(std::clamp<int64_t>(count / (16 * kThreads), 1, kMostPlaneBlocks));
}

void add_planes(float* sum, const float* part, int64_t count, cudaStream_t stream) {
  launch(stream, plane_grid(count), add, sum, part, count);
}

void blend_planes(float* average, const float* from, float decay, float rest, int64_t count,
                  cudaStream_t stream) {
  launch(stream, plane_grid(count), blend, average, from, decay, rest, count);
}

void squared_sums(const float* plane, int64_t count, double* sums, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(square_parts(count));
  launch(stream, {dim3(blocks), dim3(kThreads), kThreads / kWarp * sizeof(double)}, square, plane, count,
         sums);
}

void adamw(const AdamWNumbers& step, int64_t count, const float* gradient, float* parameters, float* exp_avg,
           float* exp_avg_sq, cudaStream_t stream) {
  launch(stream, plane_grid(count), update, step, count, gradient, parameters, exp_avg, exp_avg_sq);
}

void round_plane(const float* from, int64_t count, DType precision, void* to, cudaStream_t stream) {
  with_element(precision, [&](auto element) {
    using Element = decltype(element);
    launch(stream, plane_grid(count), round<Element>, from, count, static_cast<Element*>(to));
  });
}

}  // namespace bdh::cuda
