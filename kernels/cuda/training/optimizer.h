// What is done with all numbers of planes on a GPU.
#pragma once

#include "bdh/base/dtype.h"
#include "kernels/cuda/runtime.h"
#include "kernels/training_numbers.h"

namespace bdh::cuda {

/// Parts of squared_sums of so many numbers.
int square_parts(int64_t count);

void add_planes(float* sum, const float* part, int64_t count, cudaStream_t stream);
/// average = decay * average + rest * from.
void blend_planes(float* average, const float* from, float decay, float rest, int64_t count,
                  cudaStream_t stream);
/// Sums of squares, of square_parts(count) parts of the plane.
void squared_sums(const float* plane, int64_t count, double* sums, cudaStream_t stream);
void adamw(const AdamWNumbers& step, int64_t count, const float* gradient, float* parameters, float* exp_avg,
           float* exp_avg_sq, cudaStream_t stream);
/// to = from as bf16 or f16.
void round_plane(const float* from, int64_t count, DType precision, void* to, cudaStream_t stream);

}  // namespace bdh::cuda
