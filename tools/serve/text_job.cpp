// Making the texts of a request.
#include "tools/serve/text_job.h"

#include <algorithm>
#include <random>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/text/utf8.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostTexts = 64;  // of one request

std::optional<KeptState> state_of(const Service& service, const ServedModel& served,
                                  const std::string& name) {
  if (name.empty()) return {};
  check_state_name(name);
  std::optional<KeptState> state = kept_state(service, served, name);
  if (!state) throw ApiError(404, concat("there is no state '", name, "'"), "state");
  return state;
}

/// The text has ended: counts it, keeps its state, and says why it ended.
void end(Service& service, TextJob& job, Choice& choice) {
  ServedText& served = job.texts->result(choice.index);
  if (served.text.finish == FinishReason::cancelled) throw ApiError(503, "the server is stopping");
  job.prompt_tokens += served.text.prompt_tokens;
  job.cached_tokens += served.cached_tokens;
  job.text_tokens += std::ssize(served.text.tokens);
  choice.finish = served.text.finish == FinishReason::length ? "length" : "stop";
  if (!job.query.return_state) return;
  choice.state = job.query.state_name.empty() ? new_id("state-") : job.query.state_name;
  keep_state(service, choice.state, {std::move(served.session), served.text.next});
}

}  // namespace

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xc0) != 0x80; }));
}

GenerationConfig default_config(const ServedModel& served) {
  GenerationConfig config = served.model->generation;
  config.num_return_sequences = 1;
  return config;
}

void complete(TextQuery& query) {
  if (query.do_sample) query.config.sampling.do_sample = *query.do_sample;
  query.config.sampling.seed = query.seed.value_or(std::random_device{}());
  query.config.seed_given = true;
  if (query.top_logprobs && !query.chat_logprobs)
    throw ApiError(400, "'top_logprobs' needs 'logprobs': true", "top_logprobs");
  if (query.chat_logprobs) query.logprobs = query.top_logprobs.value_or(0);
  if (query.prompts.size() * static_cast<size_t>(query.n) > kMostTexts)
    throw ApiError(400, concat("a request is for at most ", kMostTexts, " texts, n of each prompt"), "n");
  if (query.activity && !query.logprobs) throw ApiError(400, "'activity' needs 'logprobs'", "activity");
  if (query.return_state && !query.state_name.empty() &&
      query.prompts.size() * static_cast<size_t>(query.n) > 1)
    throw ApiError(400, "'return_state' can name the state of one text alone: use true", "return_state");
}

void begin(Service& service, const HttpRequest& request, TextJob& job) {
  TextQuery& query = job.query;
  const std::optional<KeptState> state = state_of(service, *job.served, query.state);
  const Tokenizer& tokenizer = *job.served->model->tokenizer;
  std::vector<TextRequest> requests;
  for (const GivenPrompt& given : query.prompts) {
    const std::vector<int32_t> prompt = prompt_tokens(service, *job.served, given, !state);
    job.prompts.push_back(given.tokens ? valid_utf8(tokenizer.decode(*given.tokens)) : given.text);
    for (int64_t i = 0; i < query.n; ++i) {
      TextRequest one;
      one.prompt_tokens = prompt;
      one.config = query.config;
      one.config.sampling.seed += requests.size();
      one.wants_session = query.return_state;
      one.weights = job.served->model->weights;
      if (state) {
        one.from = state->session;
        one.continued.unread = state->text.unread;
      }
      job.offsets.push_back(query.echo ? 0 : characters(job.prompts.back()));
      requests.push_back(std::move(one));
    }
  }
  job.texts = std::make_unique<Texts>(job.served->scheduler, service.metrics, std::move(requests),
                                      TextsOptions{query.logprobs, query.echo, query.activity,
                                                   service.options.seconds, request.is_gone, query.stream});
}

Choice choice_of(Service& service, TextJob& job, TextPiece piece) {
  Choice choice{piece.text, std::move(piece.characters), std::move(piece.tokens), "", ""};
  if (piece.is_last) end(service, job, choice);
  return choice;
}

std::vector<Choice> all_choices(Service& service, TextJob& job) {
  std::vector<Choice> choices(job.texts->count());
  for (size_t i = 0; i < choices.size(); ++i) {
    choices[i].index = i;
    if (job.query.echo) choices[i].text = job.prompts[i / static_cast<size_t>(job.query.n)];
  }
  while (auto piece = job.texts->next()) {
    Choice more = choice_of(service, job, std::move(*piece));
    Choice& whole = choices[more.index];
    whole.text += more.text;
    whole.tokens.insert(whole.tokens.end(), more.tokens.begin(), more.tokens.end());
    whole.finish = more.finish;
    whole.state = more.state;
  }
  return choices;
}

}  // namespace bdh::tools
