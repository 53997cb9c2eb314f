// BDH's operations in float64 on the CPU, over weights rounded as the GPU has them, and arrays on their way
// to the GPU and back: what the tests of the kernels beside this file compare with.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/packed.h"
#include "tests/kernels/cuda/weights.h"

namespace bdh::test {

using Numbers = std::vector<double>;

/// Weights as the state_dict has them.
struct LayerNumbers {
  Numbers encoder, encoder_v, decoder;
};

/// What weights may be: floats, and integers of 8 and 4 bits.
constexpr DType kWeights[] = {DType::f32, DType::bf16, DType::f16, DType::i8, DType::u8};

/// A random model on the GPU, and its weights as numbers: quantized ones as what they stand for, or as that
/// rounded to `products`.
struct KernelModel {
  KernelModel(const Config& config, DType dtype, DType products = DType::f32);
  const cuda::PackedParameters& packed() const {
    return static_cast<const cuda::PackedParameters&>(weights->packed());
  }
  const LayerNumbers& layer(int index) const { return layers[static_cast<size_t>(index) % layers.size()]; }
  cuda::Sizes sizes() const { return packed().sizes; }

  Dimensions dims;
  DType dtype;
  WeightsPointer weights;
  std::vector<LayerNumbers> layers;  // dims.sets of them
  Numbers embed, lm_head;
  std::vector<float> freqs;
};

/// n (H*N) = relu(x E).
Numbers encode(const KernelModel& model, int layer, const double* x);
/// r (H*N): phases are rounded to float32 as the reference does; the rest is exact.
Numbers rotate(const KernelModel& model, const Numbers& n, int64_t position);
/// norm(row).
Numbers norm(Numbers row);
/// v (H*N) = relu(attended_h Ev_h), for attended (H, D).
Numbers gate_values(const KernelModel& model, int layer, const Numbers& attended);
/// y (D) = g decoder, for g (H*N).
Numbers mix(const KernelModel& model, int layer, const Numbers& g);
/// norm(x + norm(y)).
Numbers residual(const Numbers& x, const Numbers& y);

/// Numbers in [-scale, scale), the same for the same seed.
Numbers random_numbers(int64_t count, uint64_t seed, double scale = 1.0);
/// Those below `density` of the way to `scale` are zero, the others positive: as n is.
Numbers random_activity(int64_t count, uint64_t seed, double density, double scale = 1.0);
/// (rows, width) with rows padded with zeros to `stride`.
Numbers padded(const Numbers& numbers, int64_t width, int64_t stride);
Numbers unpadded(const Numbers& numbers, int64_t width, int64_t stride);
/// As a number of that dtype.
Numbers rounded(const Numbers& numbers, DType dtype);

/// Device memory full of NaN.
cuda::DeviceMemory poisoned(size_t bytes);
void poison(void* memory, size_t bytes);
void upload_bytes(void* to, const void* from, size_t bytes);
void download_bytes(void* to, const void* from, size_t bytes);
void upload(void* to, const Numbers& from, DType dtype = DType::f32);
/// Waits for all that was queued.
Numbers download(const void* from, int64_t count, DType dtype = DType::f32);
cuda::DeviceMemory uploaded(const Numbers& from, DType dtype = DType::f32);

/// Largest difference as a share of the largest wanted number; infinite for a NaN or another count.
double worst(const Numbers& got, const Numbers& want);
/// Of a sum in float32, and of one whose operands are rounded to the dtype.
double tolerance_of(DType activations);

}  // namespace bdh::test
