// GenerationConfig: how text is generated, as generation_config.json holds it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "kernels/sampler.h"

namespace bdh {

/// What generation_config.json holds, and what a call may override.
struct GenerationConfig {
  int64_t max_new_tokens = 100;
  SamplingOptions sampling;
  bool seed_given =
      false;  // sampling.seed was chosen by the file or the caller; a command draws one otherwise
  std::vector<std::string> stop;  // text ends before the first of these
  std::vector<int64_t> eos;       // tokens that end a text, as the tokenizer's own end-of-text token does
  std::vector<float> horizon;     // SessionOptions::horizon of a session that has read nothing; empty: none
  Json::Object extra;             // keys that are not ours, kept

  /// Throws Error(invalid_argument) naming the option.
  void validate() const;
  /// What has no effect on a model of that vocabulary, in words; empty when everything has.
  std::string useless_options(int64_t vocab_size) const;
  /// Keys max_new_tokens, do_sample, those of sampling_options(), seed, stop_strings or stop (a string or an
  /// array of them), eos_token_id (a token or an array of them) and horizon (horizon_from_json). Missing ones
  /// and null take the defaults above. `source` names the file in errors. Throws Error(bad_file) naming file
  /// and key.
  static GenerationConfig from_json(const Json& json, std::string_view source);
  /// max_new_tokens, the sampling options that are warpers, do_sample; the others, seed, stop_strings,
  /// eos_token_id and horizon where they are not the default; then `extra`.
  Json to_json() const;
};

}  // namespace bdh
