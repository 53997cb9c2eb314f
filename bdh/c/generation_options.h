// bdh_generation_options: what the library makes of them.
#pragma once

#include <cstdint>

#include "bdh/bdh_c.h"
#include "bdh/c/handles.h"
#include "bdh/pretrained/model.h"
#include "bdh/text/text_in_progress.h"

namespace bdh::c {

bdh_generation_options options_of(const GenerationConfig& config);
SamplingOptions sampling_of(const bdh_generation_options& given);
/// The model's config with what was given in its place. Throws Error(invalid_argument).
GenerationConfig config_of(const Model& model, bool own_horizon, const bdh_generation_options& given);
/// Where the session's text goes on: its sampler where it stood, unless it gets another seed.
Continuation continuation_of(const bdh_session& session, uint64_t seed);
/// bdh_finish.
int32_t finish_of(FinishReason reason);

}  // namespace bdh::c
