// Weights: a model's config and parameters on a backend. Immutable; any number of sessions and threads share
// them.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bdh/base/tensor.h"
#include "bdh/model/config.h"
#include "kernels/adapter.h"
#include "kernels/backend.h"

namespace bdh {

class Weights {
 public:
  /// Takes a state_dict, quantized or packed where the config says so (quantization.h, packed_layout.h), or
  /// else: decoder (H*N, D), encoder (H, D, N), encoder_v (H, D, N), or for layers that are not tied
  /// decoder.0, .. of each; lm_head (D, V), attn.freqs (1, 1, 1, N) or (N), embed.weight (V, D). Prefixes are
  /// dropped (plain_name); a missing attn.freqs is derived, any other is taken as stored_frequencies says.
  /// dtype: what the parameters run as; by default as stored (float64 runs as float32), and quantized ones
  /// never otherwise. `source` names the file in errors. Reads no parameter yet: the tensors are kept, and
  /// packed at the first use. Throws Error(bad_file) naming tensor, found and expected shape,
  /// Error(invalid_argument) for a dtype of quantized weights.
  Weights(Config config, const TensorMap& state_dict, std::shared_ptr<Backend> backend,
          std::optional<DType> dtype = {}, const std::string& source = "state_dict",
          std::vector<std::string>* warnings = nullptr);

  /// Other weights with an adapter beside them, which share their memory: sessions of both may be read
  /// together. Throws Error(unsupported) where the backend applies none, or there is one already.
  Weights(std::shared_ptr<const Weights> base, std::shared_ptr<const Adapter> adapter);

  /// Of the state_dict below: never packed.
  const Config& config() const { return config_; }
  Backend& backend() const { return *backend_; }
  /// What is beside the weights, or null, and the weights without it: these, where it is.
  const Adapter* adapter() const { return adapter_.get(); }
  const Weights& base() const { return base_ ? *base_ : *this; }
  /// For other weights on the same backend.
  const std::shared_ptr<Backend>& shared_backend() const { return backend_; }
  /// Packs at the first call, for all threads. Throws Error(out_of_memory).
  const Packed& packed() const;
  /// What the parameters run as: f32, bf16 or f16; i8 or u8 where they are quantized to 8 or 4 bits.
  DType dtype() const { return dtype_; }
  /// "F32", "BF16", "F16", "int8" or "int4".
  std::string_view dtype_name() const;
  /// What they were given as: the encoder's dtype.
  DType stored_dtype() const { return parameters_.layers.front().encoder.values.dtype; }
  /// The parameters as they were given, under the names above, with attn.freqs (1, 1, 1, N) in float32;
  /// packed ones as strided views with the shapes of a state_dict that is not. Throws Error(unsupported)
  /// where there is an adapter, which no state_dict holds.
  TensorMap state_dict() const;
  /// SHA-256 of the parameters' names, dtypes, shapes and bytes, as they were given: 64 hexadecimal digits,
  /// the same however they lie in files, and where there is an adapter of that too. Made at the first call,
  /// and kept in hash_file where that is not empty.
  const std::string& hash() const;

  std::filesystem::path hash_file;  // set before the weights are shared

 private:
  Config config_;
  std::shared_ptr<Backend> backend_;
  std::shared_ptr<const Weights> base_;  // null: these are it
  std::shared_ptr<const Adapter> adapter_;
  Parameters parameters_;
  DType dtype_;
  mutable std::once_flag packing_, hashing_;
  mutable std::string hash_;
  mutable std::shared_ptr<const Packed> packed_;
};

/// The buffer among the parameters: turns per token, not trained.
inline constexpr const char* kFreqs = "attn.freqs";

/// The shape each parameter must have, by its name in the state_dict: of values and scales where they are
/// quantized, rows and padding where they are packed.
std::vector<std::pair<std::string, Shape>> parameter_shapes(const Config& config);

/// "encoder", or "encoder.3" where each layer has its own: a layer parameter's name in the state_dict.
std::string layer_parameter(const Config& config, const std::string& name, int64_t set);

/// The name without the prefixes `_orig_mod.`, `module.`, `network.`, `backbone.` and `model.`, in any order,
/// however often they are repeated.
std::string_view plain_name(std::string_view name);

/// Float weights with normal(0, 0.02) entries, as a new model starts: for tests and benchmarks.
TensorMap random_state_dict(const Config& config, uint64_t seed, DType dtype = DType::f32);

}  // namespace bdh
