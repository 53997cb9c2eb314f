// Options of C, and those of the library.
#include "bdh/c/generation_options.h"

#include "bdh/base/error.h"

namespace bdh::c {
namespace {

void take_length(GenerationConfig& config, const bdh_generation_options& given) {
  const bool by_length = given.max_new_tokens < 0;
  if (by_length && given.max_length <= 0)
    fail(ErrorKind::invalid_argument, "max_new_tokens is ", given.max_new_tokens,
         ", and max_length gives no length either");
  config.max_length = by_length ? given.max_length : 0;
  if (!by_length) config.max_new_tokens = given.max_new_tokens;
}

void take_stops(GenerationConfig& config, const bdh_generation_options& given) {
  if (given.stop_count > 0) require(given.stop, "stop");
  if (!given.stop) return;
  config.stop.clear();
  for (size_t i = 0; i < given.stop_count; ++i) {
    require(given.stop[i], "a stop string");
    config.stop.emplace_back(given.stop[i]);
  }
}

}  // namespace

bdh_generation_options options_of(const GenerationConfig& config) {
  const SamplingOptions& sampling = config.sampling;
  bdh_generation_options options{};
  options.size = sizeof options;
  options.max_new_tokens = config.max_length > 0 ? -1 : config.max_new_tokens;
  options.max_length = config.max_length;
  options.min_new_tokens = config.min_new_tokens;
  options.min_length = config.min_length;
  options.no_repeat_ngram_size = config.no_repeat_ngram_size;
  options.do_sample = sampling.do_sample ? 1 : 0;
  options.top_k = sampling.top_k;
  options.seed = sampling.seed;
  options.temperature = sampling.temperature;
  options.top_p = sampling.top_p;
  options.min_p = sampling.min_p;
  options.typical_p = sampling.typical_p;
  options.epsilon_cutoff = sampling.epsilon_cutoff;
  options.eta_cutoff = sampling.eta_cutoff;
  options.repetition_penalty = sampling.repetition_penalty;
  return options;
}

SamplingOptions sampling_of(const bdh_generation_options& given) {
  SamplingOptions sampling;
  sampling.do_sample = given.do_sample != 0;
  sampling.top_k = given.top_k;
  sampling.seed = given.seed;
  sampling.temperature = given.temperature;
  sampling.top_p = given.top_p;
  sampling.min_p = given.min_p;
  sampling.typical_p = given.typical_p;
  sampling.epsilon_cutoff = given.epsilon_cutoff;
  sampling.eta_cutoff = given.eta_cutoff;
  sampling.repetition_penalty = given.repetition_penalty;
  return sampling;
}

GenerationConfig config_of(const Model& model, bool own_horizon, const bdh_generation_options& given) {
  GenerationConfig config = model.generation;
  config.num_return_sequences = 1;
  if (own_horizon) config.horizon.clear();
  take_length(config, given);
  config.min_new_tokens = given.min_new_tokens;
  config.min_length = given.min_length;
  config.no_repeat_ngram_size = given.no_repeat_ngram_size;
  config.sampling = sampling_of(given);
  take_stops(config, given);
  return config;
}

Continuation continuation_of(const bdh_session& session, uint64_t seed) {
  Continuation text = session.text;
  if (text.seed != seed) text.step = 0;
  text.seed = seed;
  return text;
}

int32_t finish_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::length:
      return BDH_FINISH_LENGTH;
    case FinishReason::eos:
      return BDH_FINISH_EOS;
    case FinishReason::stop:
      return BDH_FINISH_STOP;
    case FinishReason::cancelled:
      return BDH_FINISH_CANCELLED;
  }
  return BDH_FINISH_LENGTH;
}

}  // namespace bdh::c
