// The C API's text: tokens of it, tokens drawn, and a prompt that is continued.
#include <string>
#include <vector>

#include "bdh/c/generation_options.h"
#include "bdh/c/handles.h"
#include "bdh/text/generation.h"

namespace {

using namespace bdh::c;
using bdh::ErrorKind;

bdh::GenerationCallbacks callbacks_of(const bdh_generation_options& given) {
  bdh::GenerationCallbacks callbacks;
  if (given.on_text) {
    callbacks.on_text = [&](size_t, std::string_view text) {
      return text.empty() || given.on_text(given.user, text.data(), text.size()) != 0;
    };
  }
  if (given.on_token) {
    callbacks.on_token = [&](size_t, int32_t token, double log_probability) {
      return given.on_token(given.user, token, log_probability) != 0;
    };
  }
  if (given.on_prompt) {
    callbacks.on_prefill = [&](int64_t done, int64_t total) {
      return given.on_prompt(given.user, done, total) != 0;
    };
  }
  return callbacks;
}

bdh::GenerationResult continued(bdh_session& session, const std::string& prompt,
                                const bdh_generation_options& given) {
  const bdh::GenerationConfig config = config_of(*session.model, session.own_horizon, given);
  bdh::Session* const sessions[] = {&session.session};
  const bdh::Continuation text[] = {continuation_of(session, given.seed)};
  bdh::GenerationContext context;
  context.continued = text;
  const int64_t position = session.session.position();
  try {
    bdh::GenerationResult result = bdh::generate(sessions, tokenizer_of(*session.model), {&prompt, 1}, config,
                                                 callbacks_of(given), {}, context);
    session.text = result.texts.front().next;
    return result;
  } catch (...) {
    if (session.session.position() != position) session.text.unread.clear();  // they are read first
    throw;
  }
}

bdh_generation_result result_of(const bdh::GenerationResult& result) {
  const bdh::GeneratedText& text = result.texts.front();
  bdh_generation_result of{};
  of.finish = finish_of(text.finish);
  of.exhausted = result.exhausted ? 1 : 0;
  of.prompt_tokens = text.prompt_tokens;
  of.new_tokens = std::ssize(text.tokens);
  of.prompt_seconds = result.prefill_seconds;
  of.text_seconds = result.decode_seconds;
  return of;
}

}  // namespace

bdh_status bdh_tokenize(const bdh_model* model, const char* text, size_t length, int32_t special_tokens,
                        int32_t* tokens, size_t capacity, size_t* count) {
  return guarded([&] {
    require(model, "model");
    if (length > 0) require(text, "text");
    bdh::EncodeOptions options;
    options.special_tokens = special_tokens != 0;
    const std::vector<int32_t> encoded = tokenizer_of(*model->model).encode_with(options, {text, length});
    copy_out(std::span(encoded), tokens, capacity, count);
  });
}

bdh_status bdh_detokenize(const bdh_model* model, const int32_t* tokens, size_t count, int32_t special_tokens,
                          char* text, size_t capacity, size_t* length) {
  return guarded([&] {
    require(model, "model");
    if (count > 0) require(tokens, "tokens");
    const bdh::Tokenizer& tokenizer = tokenizer_of(*model->model);
    const std::span<const int32_t> all(tokens, count);
    copy_text(special_tokens != 0 ? tokenizer.decode(all) : tokenizer.decode_text(all), text, capacity,
              length);
  });
}

bdh_status bdh_token_to_piece(const bdh_model* model, int32_t token, char* text, size_t capacity,
                              size_t* length) {
  return guarded([&] {
    require(model, "model");
    copy_text(tokenizer_of(*model->model).decode({&token, 1}), text, capacity, length);
  });
}

bdh_status bdh_generation_options_defaults(const bdh_model* model, bdh_generation_options* options,
                                           size_t size) {
  return guarded([&] {
    give(options_of(model ? model->model->generation : bdh::GenerationConfig()), options, size,
         "bdh_generation_options");
  });
}

bdh_status bdh_generate(bdh_session* session, const char* prompt, size_t length,
                        const bdh_generation_options* options, bdh_generation_result* result,
                        size_t result_size) {
  return guarded([&] {
    require(session, "session");
    if (length > 0) require(prompt, "prompt");
    if (options) require_size(options->size, sizeof *options, "bdh_generation_options");
    if (result) require_size(result_size, sizeof *result, "bdh_generation_result");
    const bdh_generation_options given = options ? *options : options_of(session->model->generation);
    const std::string text(length > 0 ? prompt : "", length);
    const bdh::GenerationResult generated = continued(*session, text, given);
    if (result) *result = result_of(generated);
    if (generated.texts.front().finish == bdh::FinishReason::cancelled)
      bdh::fail(ErrorKind::cancelled, "generation was stopped by its callback");
  });
}

bdh_status bdh_sample(const float* logits, size_t count, const bdh_generation_options* options,
                      const int32_t* history, size_t history_count, uint64_t step, int32_t* token) {
  return guarded([&] {
    require(logits, "logits");
    require(token, "token");
    if (history_count > 0) require(history, "history");
    if (options) require_size(options->size, sizeof *options, "bdh_generation_options");
    bdh::Draw draw;
    draw.options = options ? sampling_of(*options) : bdh::SamplingOptions();
    draw.options.validate();
    draw.vocab = static_cast<int64_t>(count);
    draw.step = step;
    draw.history = {history, history_count};
    *token = bdh::Sampler().draw(draw, {logits, count});
  });
}
