// From run-time dtypes and widths to the template that was compiled for them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "bdh/base/error.h"
#include "kernels/cuda/chunk.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/step.h"

namespace bdh::cuda {

/// function(Element{}) for the dtype of packed parameters: f32, bf16 or f16.
template <class Function>
void with_element(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::bf16:
      return function(__nv_bfloat16{});
    case DType::f16:
      return function(__half{});
    default:
      return function(float{});
  }
}

/// function(Activation{}, Element{}) for a chunk: activations are float32 or, like the weights, 16 bits long.
template <class Function>
void with_chunk_types(DType activations, DType weights, Function&& function) {
  with_element(weights, [&](auto element) {
    if (activations == DType::f32) return function(float{}, element);
    return function(element, element);
  });
}

/// function(integral_constant<Unit, unit>): float has one unit, elements of 16 bits the one that is chosen.
template <class Activation, class Function>
void choose_unit([[maybe_unused]] Unit unit, Function&& function) {
  if constexpr (!std::is_same_v<Activation, float>) {
    if (unit == Unit::warpgroups) return function(std::integral_constant<Unit, Unit::warpgroups>{});
  }
  function(std::integral_constant<Unit, Unit::warps>{});
}

/// function(Activation{}, integral_constant<Unit, unit>) for the products of a chunk.
template <class Function>
void with_unit(const ChunkBuffers& buffers, Function&& function) {
  with_element(buffers.activations, [&](auto activation) {
    choose_unit<decltype(activation)>(buffers.unit, [&](auto unit) { function(activation, unit); });
  });
}

/// function(Activation{}, Element{}, integral_constant<Unit, unit>) for those with weights.
template <class Function>
void with_unit_and_weights(const ChunkBuffers& buffers, DType weights, Function&& function) {
  with_chunk_types(buffers.activations, weights, [&](auto activation, auto element) {
    choose_unit<decltype(activation)>(buffers.unit, [&](auto unit) { function(activation, element, unit); });
  });
}

/// function(integral_constant<int, V>) where V vectors a lane hold a row of `stride` <= kWidestStep elements.
template <class Function>
void with_vectors(int stride, Function&& function) {
  constexpr int kSpan = kWarp * kVector;
  if (stride <= kSpan) return function(std::integral_constant<int, 1>{});
  if (stride <= 2 * kSpan) return function(std::integral_constant<int, 2>{});
  if (stride <= 4 * kSpan) return function(std::integral_constant<int, 4>{});
  return function(std::integral_constant<int, kWidestStep / kSpan>{});
}

}  // namespace bdh::cuda
