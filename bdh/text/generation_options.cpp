// The table of generation options.
#include "bdh/text/generation_options.h"

#include <limits>

namespace bdh {
namespace {

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
constexpr int64_t kMostTexts = 4096;
constexpr const char* kCount = "0 or a positive whole number";
constexpr const char* kTokens = "token ids";

constexpr GenerationOption kOptions[] = {
    {"max_length", &GenerationConfig::max_length, 0, kAny, kCount,
     "tokens of prompt and text together, at most; --max-new-tokens goes before it"},
    {"min_length", &GenerationConfig::min_length, 0, kAny, kCount,
     "do not end before prompt and text together have so many tokens"},
    {"min_new_tokens", &GenerationConfig::min_new_tokens, 0, kAny, kCount,
     "do not end before the text has so many tokens; goes before --min-length"},
    {"no_repeat_ngram_size", &GenerationConfig::no_repeat_ngram_size, 0, kAny, kCount,
     "never repeat so many tokens of prompt and text in a row; 0: may"},
    {"suppress_tokens", &GenerationConfig::suppress_tokens, 0, 0, kTokens, "tokens never to draw, as 1,2,3"},
    {"begin_suppress_tokens", &GenerationConfig::begin_suppress_tokens, 0, 0, kTokens,
     "tokens that a text must not begin with"},
    {"bad_words_ids", &GenerationConfig::bad_words_ids, 0, 0, "sequences of token ids",
     "tokens never to come in this order, as 1,2,3; may be repeated"},
    {"num_return_sequences", &GenerationConfig::num_return_sequences, 1, kMostTexts, "in [1, 4096]",
     "texts for each prompt"},
};

}  // namespace

std::span<const GenerationOption> generation_options() { return kOptions; }

}  // namespace bdh
