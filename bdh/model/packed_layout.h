// Packed layout: a state_dict as the CPU's kernels read it, so that a mapped file is run where it lies, and
// processes that run it share its pages.
//
// Matrices are rows, a neuron's or a token's, each padded with zeros. S is D rounded up to whole 16 numbers,
// to whole 64 where weights are quantized (quantization.h).
//     floats: encoder.rows and encoder_v.rows (H, N, S) in the place of encoder and encoder_v (H, D, N);
//             decoder (H*N, S); lm_head (D, V rounded up to 16); embed.weight (V, D) as it was.
//     8 bits: NAME I8 (.., S); NAME.scales as they were.
//     4 bits: NAME U8 (.., S / 2); NAME.scales (.., S / 32), zeros behind those that count.
// With weights for each layer: encoder.0.rows, .. . attn.freqs as it was. config.json says
// {"quantization_config": {"quant_method": "bdh", "layout": "packed"}}, with bits and group_size where
// weights are quantized, and each file's metadata {"bdh.layout": "packed"}. In a file a tensor begins at
// a multiple of the largest power of two, up to 64, that divides its bytes: those of 64 come first. Rows that
// do not begin so, or whose padding is not 0, are copied when they are first needed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "bdh/base/tensor.h"
#include "bdh/model/config.h"

namespace bdh {

/// After the name of an encoder whose neurons are rows.
inline constexpr std::string_view kRows = ".rows";

/// The key of a file's metadata, its value, and the bytes that its tensors are aligned to.
inline constexpr const char* kLayoutKey = "bdh.layout";
inline constexpr const char* kPackedLayout = "packed";
inline constexpr size_t kPackedAlignment = 64;

/// The config of the same model with its weights packed, or not.
Config with_packed(Config config, bool packed);

/// What a parameter of a model that is not packed, with `bits` bits or 0, is called and shaped when packed.
std::string packed_name(const std::string& name, int64_t bits);
Shape packed_shape(const std::string& name, Shape shape, int64_t bits);

/// The state_dict of that config, which is not packed, as a packed one: views of the same memory, copies
/// where there is padding.
TensorMap packed_state_dict(const Config& config, const TensorMap& state_dict);

/// A packed state_dict of that config as one that is not: strided views of the same memory, behind whose rows
/// the padding lies. Other tensors stay. `source` names the file in errors. Throws Error(bad_file) naming a
/// tensor that is missing, has another shape, or stands there as rows and as columns.
TensorMap unpacked_state_dict(const Config& config, const TensorMap& state_dict, const std::string& source);

}  // namespace bdh
