// Generation: prompts in, text out, as a stream or whole.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/model/session.h"
#include "bdh/text/generation_config.h"
#include "bdh/text/prompt_cache.h"
#include "bdh/text/text_in_progress.h"
#include "bdh/text/tokenizer.h"

namespace bdh {

struct GenerationResult {
  std::vector<GeneratedText> texts;     // num_return_sequences for each prompt, in order of the prompts
  double prefill_seconds = 0;           // reading the prompts and drawing a first token for each
  double decode_seconds = 0;            // reading and drawing; not the callbacks
  int64_t prefill_tokens = 0;           // over all prompts
  int64_t decode_tokens = 0;            // tokens read after the prompts, over all prompts
  int64_t draft_tokens = 0;             // of them, those that were guessed
  std::vector<LayerActivity> activity;  // of decoding
  bool exhausted = false;               // every token was banned at some point: greedy took token 0 there
};

struct GenerationCallbacks {
  /// After each token of text `index` of the result: the text that became certain with it. That is whole
  /// UTF-8 characters, nothing that may yet turn out to be a stop string, and sometimes nothing at all.
  /// Returning false ends generation as cancelled.
  std::function<bool(size_t index, std::string_view text)> on_text;
  /// After each token of text `index`, before on_text: the token and the natural logarithm of its probability
  /// under the model, whatever the sampling options make of that. Returning false ends generation as
  /// cancelled. Logits then come back to the host with every token.
  std::function<bool(size_t index, int32_t token, double log_probability)> on_token;
  /// While prompts are read: tokens done and in all. Returning false cancels. Takes the place of
  /// ReadOptions::progress.
  std::function<bool(int64_t done, int64_t total)> on_prefill;
};

struct GenerationContext {
  /// For each session, or none: what its text has before the prompt. Those unread tokens are read first, and
  /// the prompt may be empty where there are some; its sampler goes on with the given step, and with the seed
  /// where there is one. So a text in two calls is the same as in one; but the repetition penalty,
  /// no_repeat_ngram_size, bad_words_ids and the lengths see only what is read in this call.
  std::span<const Continuation> continued = {};
  /// Where the prompt's first tokens are looked for, and kept: for a single session that has read nothing,
  /// and prompts that are read in chunks. The text is the same.
  PromptCache* cache = nullptr;
  /// Guesses of what comes next, taken from the text itself, are read together and kept where the draws
  /// confirm them: the text is the same. For a single session, on a backend that reads provisionally.
  bool drafts = false;
};

/// Continues sessions with prompts read into them, all as one batch. Text i of the result samples with seed
/// config.sampling.seed + i. read_options say how prompts are read; generated tokens are always read one by
/// one, recurrently, or with the bits of that. With num_return_sequences n, text i is one of prompt i / n;
/// prompts are read once, and what the second to n-th text of each need is a clone of its session.
///
/// Afterwards, cancelled or not, sessions[i] has read its prompt and every token of that prompt's first text
/// but the last. Only where on_prefill or ReadOptions::progress cancelled is it less, as Session::position
/// tells.
///
/// A session that has read nothing and has no horizon takes config.horizon. It begins with the special tokens
/// that the tokenizer puts around a text; a later prompt goes on without them.
///
/// A text ends with the tokenizer's end-of-text token and with each of config.eos; those that the vocabulary
/// does not have never come.
///
/// Tokens that the tokenizer does not have are never drawn, should the model's vocabulary be larger.
///
/// Throws Error(invalid_argument) for an empty prompt, for options out of range, for a prompt that max_length
/// leaves no room after, and unless there is one session for each prompt, and what
/// GenerationConfig::require_possible throws, before anything is read; and what read_batch and Sampler::next
/// throw.
GenerationResult generate(std::span<Session* const> sessions, const Tokenizer& tokenizer,
                          std::span<const std::string> prompts, const GenerationConfig& config,
                          const GenerationCallbacks& callbacks = {}, const ReadOptions& read_options = {},
                          const GenerationContext& context = {});

/// The same for one session and one text.
GeneratedText generate(Session& session, const Tokenizer& tokenizer, const std::string& prompt,
                       const GenerationConfig& config,
                       const std::function<bool(std::string_view text)>& on_text = {});

}  // namespace bdh
