// The table of options that bdh does not have, and when they do something in transformers.
#include "bdh/text/foreign_options.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "bdh/base/error.h"

namespace bdh {
namespace {

using Acts = bool (*)(const Json& value);

bool given(const Json&) { return true; }
bool not_false(const Json& value) { return !value.is_bool() || value.as_bool(); }
bool not_one(const Json& value) { return !value.is_number() || value.as_number() != 1; }
bool above_zero(const Json& value) { return !value.is_number() || value.as_number() > 0; }
bool above_one(const Json& value) { return !value.is_number() || value.as_number() > 1; }

struct ForeignOption {
  std::string_view name;
  Acts acts;  // for what is not null
  bool refused;
  const char* why;
};

constexpr ForeignOption kForeign[] = {
    {"num_beams", above_one, true, "bdh has no beam search"},
    {"num_beam_groups", above_one, true, "bdh has no beam search"},
    {"constraints", given, true, "bdh has no constrained beam search"},
    {"force_words_ids", given, true, "bdh has no constrained beam search"},
    {"penalty_alpha", above_zero, true, "bdh has no contrastive search"},
    {"dola_layers", given, true, "bdh has no decoding by contrasting layers"},
    {"guidance_scale", not_one, true, "bdh has no classifier-free guidance"},
    {"sequence_bias", given, true, "bdh has no biases of sequences"},
    {"encoder_repetition_penalty", not_one, true, "bdh has no penalty for the prompt alone"},
    {"encoder_no_repeat_ngram_size", above_zero, true, "bdh has no n-grams of the prompt alone"},
    {"forced_bos_token_id", given, true, "bdh forces no tokens"},
    {"forced_eos_token_id", given, true, "bdh forces no tokens"},
    {"exponential_decay_length_penalty", given, true, "bdh has no growing wish to end"},
    {"watermarking_config", given, true, "bdh writes no watermarks"},
    {"top_h", given, true, "bdh has no filter by entropy"},
    {"token_healing", not_false, true, "bdh does not change a prompt's last token"},
    {"max_time", given, false, "bdh has no time limit"},
    {"diversity_penalty", above_zero, false, "it is for beam search"},
    {"length_penalty", not_one, false, "it is for beam search"},
    {"early_stopping", not_false, false, "it is for beam search"},
    {"prompt_lookup_num_tokens", given, false, "bdh has drafts of its own, with the same text"},
    {"assistant_early_exit", given, false, "bdh has drafts of its own, with the same text"},
    {"use_mtp", not_false, false, "bdh has drafts of its own, with the same text"},
};

/// The option's row, where it does something.
const ForeignOption* acting(const Json::Member& option) {
  const auto named = [&](const ForeignOption& foreign) { return foreign.name == option.first; };
  const auto found = std::find_if(std::begin(kForeign), std::end(kForeign), named);
  if (found == std::end(kForeign) || option.second.is_null() || !found->acts(option.second)) return nullptr;
  return found;
}

std::string shown(const Json::Member& option) {
  constexpr size_t kShown = 40;
  return concat(option.first, " ", option.second.dump().substr(0, kShown));
}

}  // namespace

void refuse_foreign_options(const Json::Object& options) {
  for (const Json::Member& option : options) {
    const ForeignOption* foreign = acting(option);
    if (!foreign || !foreign->refused) continue;
    fail(ErrorKind::unsupported, "generation_config.json: ", shown(option), ": ", foreign->why,
         "; remove it there, or go without it (--ignore ", option.first, ")");
  }
}

std::vector<std::string> ignored_options(const Json::Object& options) {
  std::vector<std::string> ignored;
  for (const Json::Member& option : options) {
    const ForeignOption* foreign = acting(option);
    if (foreign && !foreign->refused)
      ignored.push_back(concat(shown(option), " has no effect: ", foreign->why));
  }
  return ignored;
}

}  // namespace bdh
