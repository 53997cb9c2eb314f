// GenerationConfig: how text is generated, as generation_config.json holds it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "kernels/sampler.h"

namespace bdh {

/// What generation_config.json holds, and what a call may override. What a text has had before, n-grams and
/// lengths too, is counted from the prompt of the call on.
struct GenerationConfig {
  int64_t max_new_tokens = 100;
  int64_t max_length = 0;  // prompt and text together, in the place of max_new_tokens; 0: not given
  SamplingOptions sampling;
  bool seed_given =
      false;  // sampling.seed was chosen by the file or the caller; a command draws one otherwise
  int64_t min_length = 0;                      // no end before prompt and text have so many tokens
  int64_t min_new_tokens = 0;                  // no end before the text has
  int64_t no_repeat_ngram_size = 0;            // so many tokens in a row come once; 0: any may come again
  std::vector<int64_t> suppress_tokens;        // never drawn
  std::vector<int64_t> begin_suppress_tokens;  // nor these as the first
  std::vector<std::vector<int64_t>> bad_words_ids;  // never in this order; one that ends a text still may
  int64_t num_return_sequences = 1;                 // texts for each prompt
  std::vector<std::string> stop;                    // text ends before the first of these
  std::vector<int64_t> eos;    // tokens that end a text, as the tokenizer's own end-of-text token does
  std::vector<float> horizon;  // SessionOptions::horizon of a session that has read nothing; empty: none
  Json::Object extra;          // keys that are not ours, kept

  /// Throws Error(invalid_argument) naming the option.
  void validate() const;
  /// Whether a model of that vocabulary can generate so. Throws Error(unsupported) for a key of Hugging Face
  /// that would change the text and that bdh does not have (num_beams above 1 and the like), and
  /// Error(invalid_argument) for several greedy texts of one prompt and bad_words_ids outside the vocabulary.
  void require_possible(int64_t vocab_size) const;
  /// What has no effect on a model of that vocabulary, in words.
  std::vector<std::string> useless_options(int64_t vocab_size) const;
  /// How many tokens a text may have after a prompt. Throws Error(invalid_argument) where max_length leaves
  /// none.
  int64_t room_after(int64_t prompt_tokens) const;
  /// Keys max_new_tokens, do_sample, those of sampling_options() and generation_options(), seed, stop_strings
  /// or stop (a string or an array of them), eos_token_id (a token or an array of them) and horizon
  /// (horizon_from_json). null is as if it was missing. As in transformers, max_new_tokens goes before
  /// max_length, min_new_tokens before min_length, and what is missing is greedy, temperature 1, top_k 50,
  /// top_p 1. The defaults above hold instead in a file of the keys max_new_tokens, temperature and top_k, or
  /// of none, beside seed, stop and horizon; max_new_tokens is 100 in any. `source` names the file in errors.
  /// Throws Error(bad_file) naming file and key.
  static GenerationConfig from_json(const Json& json, std::string_view source);
  /// max_new_tokens or max_length, temperature, top_k, top_p, do_sample; the others where they are not the
  /// default; then `extra`.
  Json to_json() const;
};

}  // namespace bdh
