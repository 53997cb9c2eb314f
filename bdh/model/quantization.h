// Quantization: a state_dict whose matrices have 8 or 4 bits a number, made from one of floats and back.
//
// Every matrix is kept as rows of D numbers, a neuron's or a token's: decoder (H*N, D), encoder and encoder_v
// (H, N, D), lm_head and embed.weight (V, D). A number is its scale times an integer.
//     8 bits: NAME I8 (.., D), from -127 to 127; NAME.scales F16 (..), one for each row.
//     4 bits: NAME U8 (.., 16 G) and NAME.scales F16 (.., G), for G = ceil(D / 32) groups of 32 numbers along
//             D; byte j of a group holds number j in its low half and number j + 16 in its high half, each
//             from -8 to 7 with 8 added. What a last group has beyond D does not count.
// attn.freqs stays float32. config.json says {"quantization_config": {"quant_method": "bdh", "bits": 8}}, or
// "bits": 4 and "group_size": 32.
#pragma once

#include <string>
#include <string_view>

#include "bdh/base/tensor.h"
#include "bdh/model/config.h"

namespace bdh {

/// After a matrix's name: the tensor of its scales.
inline constexpr std::string_view kScales = ".scales";

/// Numbers of a row that share a scale in 4 bits.
inline constexpr int64_t kQuantizationGroup = 32;

/// The config with weights of so many bits, 8 or 4; 0: floats. Throws Error(invalid_argument) for others.
Config with_weight_bits(Config config, int64_t bits);

/// Throws Error(unsupported) where the config's weights are quantized; `what` cannot use those.
void require_floats(const Config& config, std::string_view what);

/// What values and scales must be where a float matrix has this shape.
struct QuantizedShape {
  DType dtype = DType::i8;
  Shape values, scales;
  int64_t group = 0;  // numbers that share a scale
};
QuantizedShape quantized_shape(std::string_view name, const Shape& shape, int64_t bits);

/// The state_dict (its names, float shapes) of that config rounded to nearest with `bits` bits. The config's
/// own weights are floats. Throws Error(bad_file) naming a tensor with a number that is not finite or too
/// large for a float16 scale.
TensorMap quantized(const Config& config, const TensorMap& state_dict, int64_t bits);

/// What a quantized state_dict of that config stands for, in float32 and the float shapes.
TensorMap dequantized(const Config& config, const TensorMap& state_dict);

}  // namespace bdh
