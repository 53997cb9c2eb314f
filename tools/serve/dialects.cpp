// Choices, their log probabilities and what fired, as JSON.
#include "tools/serve/dialects.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

/// JSON has no infinity.
Json log_json(double log_probability) { return std::max(log_probability, -9999.0); }

// ---- completions ----

Json completion_logprobs(TextJob& job, const Choice& choice) {
  if (!job.query.logprobs) return nullptr;
  const Tokenizer& tokenizer = *job.served->model->tokenizer;
  Json tokens(Json::Array{}), numbers(Json::Array{}), tops(Json::Array{}), offsets(Json::Array{});
  size_t& offset = job.offsets[choice.index];
  for (const TokenReport& report : choice.tokens) {
    tokens.push(token_string(tokenizer, report.token));
    numbers.push(report.log_probability ? log_json(*report.log_probability) : Json());
    offsets.push(static_cast<uint64_t>(offset));
    offset += characters(tokenizer.decode({&report.token, 1}));
    Json top(Json::Object{});
    for (const RankedToken& ranked : report.top) {
      const std::string name = token_string(tokenizer, ranked.token);
      if (!top.find(name)) top.set(name, log_json(ranked.log_probability));
    }
    tops.push(report.log_probability ? top : Json());
  }
  return Json()
      .set("tokens", tokens)
      .set("token_logprobs", numbers)
      .set("top_logprobs", tops)
      .set("text_offset", offsets);
}

constexpr size_t kMostFired = 256;

/// Three decimals, which are enough to be drawn.
double rounded(float value) { return std::round(double{value} * 1000) / 1000; }

/// The strongest of a layer, as [head, neuron, n, g], and how many there are in each head.
Json layer_json(std::vector<FiredNeuron> fired, const Dimensions& dims) {
  std::vector<int64_t> n(static_cast<size_t>(dims.heads)), g(static_cast<size_t>(dims.heads));
  for (const FiredNeuron& neuron : fired) {
    const auto head = static_cast<size_t>(neuron.neuron / dims.neurons);
    ++n[head];
    g[head] += neuron.g > 0;
  }
  const auto stronger = [](const FiredNeuron& a, const FiredNeuron& b) {
    return std::pair(a.g, a.n) > std::pair(b.g, b.n);
  };
  const auto shown = static_cast<ptrdiff_t>(std::min(fired.size(), kMostFired));
  std::partial_sort(fired.begin(), fired.begin() + shown, fired.end(), stronger);
  Json list(Json::Array{});
  for (ptrdiff_t i = 0; i < shown; ++i) {
    const FiredNeuron& neuron = fired[static_cast<size_t>(i)];
    list.push(Json::Array{neuron.neuron / dims.neurons, neuron.neuron % dims.neurons, rounded(neuron.n),
                          rounded(neuron.g)});
  }
  return Json()
      .set("n", Json::Array(n.begin(), n.end()))
      .set("g", Json::Array(g.begin(), g.end()))
      .set("fired", list);
}

Json activity_json(const TextJob& job, const Choice& choice) {
  Json entries(Json::Array{});
  for (const TokenReport& report : choice.tokens) {
    Json layers(Json::Array{});
    for (const std::vector<FiredNeuron>& layer : report.trace)
      layers.push(layer_json(layer, job.served->model->config().dimensions()));
    entries.push(report.trace.empty() ? Json() : Json().set("layers", layers));
  }
  return entries;
}

Json completion_choice(TextJob& job, const Choice& choice) {
  Json json;
  json.set("index", static_cast<uint64_t>(choice.index)).set("text", choice.text);
  json.set("logprobs", completion_logprobs(job, choice));
  if (job.query.activity) json.set("activity", activity_json(job, choice));
  json.set("finish_reason", choice.finish.empty() ? Json() : Json(choice.finish));
  if (!choice.state.empty()) json.set("state", choice.state);
  return json;
}

Json completion_delta(TextJob& job, const Choice& choice, bool) { return completion_choice(job, choice); }

// ---- chat ----

Json token_json(const Tokenizer& tokenizer, int32_t token, double log_probability) {
  Json bytes(Json::Array{});
  for (const char byte : tokenizer.decode({&token, 1})) bytes.push(int{static_cast<uint8_t>(byte)});
  return Json()
      .set("token", token_string(tokenizer, token))
      .set("logprob", log_json(log_probability))
      .set("bytes", bytes);
}

Json chat_logprobs(const TextJob& job, const Choice& choice) {
  if (!job.query.logprobs) return nullptr;
  const Tokenizer& tokenizer = *job.served->model->tokenizer;
  Json content(Json::Array{});
  for (const TokenReport& report : choice.tokens) {
    Json json = token_json(tokenizer, report.token, report.log_probability.value_or(0)), top(Json::Array{});
    for (const RankedToken& ranked : report.top)
      top.push(token_json(tokenizer, ranked.token, ranked.log_probability));
    content.push(json.set("top_logprobs", top));
  }
  return Json().set("content", content).set("refusal", nullptr);
}

Json chat_json(const TextJob& job, const Choice& choice, const char* name, const Json& message) {
  Json json;
  json.set("index", static_cast<uint64_t>(choice.index)).set(name, message);
  json.set("logprobs", chat_logprobs(job, choice));
  json.set("finish_reason", choice.finish.empty() ? Json() : Json(choice.finish));
  if (!choice.state.empty()) json.set("state", choice.state);
  return json;
}

Json chat_choice(TextJob& job, const Choice& choice) {
  return chat_json(job, choice, "message",
                   Json().set("role", "assistant").set("content", choice.text).set("refusal", nullptr));
}

Json chat_delta(TextJob& job, const Choice& choice, bool is_first) {
  Json delta(Json::Object{});
  if (is_first) delta.set("role", "assistant");
  if (is_first || !choice.text.empty()) delta.set("content", choice.text);
  return chat_json(job, choice, "delta", delta);
}

constexpr int64_t kCompletionTokens = 16;  // OpenAI's default

void completion_defaults(const Service&, TextQuery& query) {
  query.config.max_new_tokens = kCompletionTokens;
}

void chat_defaults(const Service& service, TextQuery& query) {
  if (query.config.stop.empty() && !service.chat_format.end().empty())
    query.config.stop = {service.chat_format.end()};
}

}  // namespace

const Dialect kCompletions{
    "cmpl-",
    "text_completion",
    "text_completion",
    [](const Service& service) -> const Parameters<TextQuery>& { return service.completion; },
    completion_defaults,
    completion_choice,
    completion_delta,
    false};
const Dialect kChat{"chatcmpl-",
                    "chat.completion",
                    "chat.completion.chunk",
                    [](const Service& service) -> const Parameters<TextQuery>& { return service.chat; },
                    chat_defaults,
                    chat_choice,
                    chat_delta,
                    true};

}  // namespace bdh::tools
