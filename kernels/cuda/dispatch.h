// From run-time dtypes and widths to the template that was compiled for them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "bdh/base/error.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/weight_rows.h"

namespace bdh::cuda {

/// function(Element{}) for f32, bf16 or f16.
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

/// function(Element{}) for the dtype of packed parameters, quantized ones among them.
template <class Function>
void with_weights(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::i8:
      return function(EightBits{});
    case DType::u8:
      return function(FourBits{});
    default:
      return with_element(dtype, function);
  }
}

/// function(Activation{}, Element{}) for prefill: activations are float32 or, as activation_dtype says, have
/// 16 bits.
template <class Function>
void with_prefill_types(DType activations, DType weights, Function&& function) {
  with_weights(weights, [&](auto element) {
    using Element = decltype(element);
    if (activations == DType::f32) return function(float{}, element);
    if constexpr (kQuantized<Element>) {
      function(__nv_bfloat16{}, element);
    } else {
      function(element, element);
    }
  });
}

/// function(integral_constant<Mma, mma>): elements of 16 bits have the one that is chosen; float has one
/// anyway.
template <class Activation, class Function>
void choose_mma([[maybe_unused]] Mma mma, Function&& function) {
  if constexpr (!std::is_same_v<Activation, float>) {
    if (mma == Mma::warpgroup) return function(std::integral_constant<Mma, Mma::warpgroup>{});
  }
  function(std::integral_constant<Mma, Mma::warp>{});
}

/// function(Activation{}, integral_constant<Mma, mma>) for prefill's products.
template <class Function>
void with_mma(const PrefillBuffers& buffers, Function&& function) {
  with_element(buffers.activations, [&](auto activation) {
    choose_mma<decltype(activation)>(buffers.mma, [&](auto mma) { function(activation, mma); });
  });
}

/// function(Activation{}, Element{}, integral_constant<Mma, mma>) for those with weights.
template <class Function>
void with_mma_and_weights(const PrefillBuffers& buffers, DType weights, Function&& function) {
  with_prefill_types(buffers.activations, weights, [&](auto activation, auto element) {
    choose_mma<decltype(activation)>(buffers.mma, [&](auto mma) { function(activation, element, mma); });
  });
}

/// function(integral_constant<int, V>) where V vectors a lane hold a row of `stride` <= kWidestDecode
/// elements.
template <class Function>
void with_vectors(int stride, Function&& function) {
  constexpr int kSpan = kWarp * kVector;
  if (stride <= kSpan) return function(std::integral_constant<int, 1>{});
  if (stride <= 2 * kSpan) return function(std::integral_constant<int, 2>{});
  if (stride <= 4 * kSpan) return function(std::integral_constant<int, 4>{});
  return function(std::integral_constant<int, kWidestDecode / kSpan>{});
}

}  // namespace bdh::cuda
