// Config: the sizes that define a BDH model, as config.json holds them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "kernels/backend.h"

namespace bdh {

/// The six fields of BDHConfig, with the authors' defaults, tie_layers, which others added, and how the
/// weights are kept.
struct Config {
  int64_t n_layer = 6;                        // L
  int64_t n_embd = 256;                       // D
  double dropout = 0.1;                       // in training only
  int64_t n_head = 4;                         // H
  int64_t mlp_internal_dim_multiplier = 128;  // M
  int64_t vocab_size = 256;                   // V
  bool tie_layers = true;   // false: every layer has encoder, encoder_v and decoder of its own
  int64_t weight_bits = 0;  // 8 or 4: quantized as model/quantization.h says; 0: floats
  bool packed = false;      // in files, as model/packed_layout.h says
  Json::Object extra;       // keys of config.json that are not ours, kept in their order

  /// N = M * D / H, an integer division.
  int64_t neurons_per_head() const { return mlp_internal_dim_multiplier * n_embd / n_head; }
  /// Sets of layer weights: 1, or L.
  int64_t sets() const { return tie_layers ? 1 : n_layer; }
  Dimensions dimensions() const { return {n_layer, n_embd, n_head, neurons_per_head(), vocab_size, sets()}; }
  /// Trained numbers: decoder, encoder, encoder_v, lm_head and embedding (attn.freqs is a buffer, not
  /// counted).
  int64_t parameters() const;
  /// Bytes of one session's state: 4 * L * H * N * D.
  int64_t state_bytes() const;

  /// Throws Error(invalid_argument) naming the field: sizes must be positive, N even, dropout in [0, 1), and
  /// parameters and state must be countable in 63 bits.
  void validate() const;

  /// Missing fields take the defaults; unknown ones go to `extra`, each with a line in *warnings. `source`
  /// names the file in errors. Validates. Throws Error(bad_file), Error(unsupported) for a quantization or
  /// layout that is not ours.
  static Config from_json(const Json& json, std::string_view source,
                          std::vector<std::string>* warnings = nullptr);
  /// The six fields, in BDHConfig's order, tie_layers where it is false, quantization_config where weights
  /// are quantized or packed, then `extra`.
  Json to_json() const;
};

/// A key that transformers writes into every config.json: kept without a warning.
bool is_written_by_transformers(std::string_view key);

}  // namespace bdh
