// /v1/completions, /v1/chat/completions and /generate: one way to make texts, three ways to tell them.
#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/text/utf8.h"
#include "tools/serve/openapi.h"
#include "tools/serve/service.h"
#include "tools/serve/texts.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostTexts = 64;  // of one request

/// A text as it is told to the client, whole or so far.
struct Choice {
  size_t index = 0;
  std::string text;
  std::vector<TokenReport> tokens;
  std::string finish;  // "": not yet
  std::string state;
};

/// What one request is about, while it is answered.
struct Job {
  ServedModelPointer served;
  TextQuery query;
  std::string id;
  int64_t created = unix_time();
  std::vector<std::string> prompts;  // as text
  std::unique_ptr<Texts> texts;
  std::vector<size_t> offsets;  // of each text: characters that were told
  int64_t prompt_tokens = 0, text_tokens = 0, cached_tokens = 0;
};

/// How one of OpenAI's two APIs tells it.
struct Dialect {
  const char* prefix;
  const char* object;
  const char* chunk_object;
  Json (*choice)(Job& job, const Choice& choice);
  Json (*delta)(Job& job, const Choice& choice, bool is_first);
};

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xc0) != 0x80; }));
}

/// JSON has no infinity.
Json log_json(double log_probability) { return std::max(log_probability, -9999.0); }

// ---- completions ----

Json completion_logprobs(Job& job, const Choice& choice) {
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

Json activity_json(const Job& job, const Choice& choice) {
  Json entries(Json::Array{});
  for (const TokenReport& report : choice.tokens) {
    Json layers(Json::Array{});
    for (const std::vector<FiredNeuron>& layer : report.trace)
      layers.push(layer_json(layer, job.served->model->config().dimensions()));
    entries.push(report.trace.empty() ? Json() : Json().set("layers", layers));
  }
  return entries;
}

Json completion_choice(Job& job, const Choice& choice) {
  Json json;
  json.set("index", static_cast<uint64_t>(choice.index)).set("text", choice.text);
  json.set("logprobs", completion_logprobs(job, choice));
  if (job.query.activity) json.set("activity", activity_json(job, choice));
  json.set("finish_reason", choice.finish.empty() ? Json() : Json(choice.finish));
  if (!choice.state.empty()) json.set("state", choice.state);
  return json;
}

Json completion_delta(Job& job, const Choice& choice, bool) { return completion_choice(job, choice); }

// ---- chat ----

Json token_json(const Tokenizer& tokenizer, int32_t token, double log_probability) {
  Json bytes(Json::Array{});
  for (const char byte : tokenizer.decode({&token, 1})) bytes.push(int{static_cast<uint8_t>(byte)});
  return Json()
      .set("token", token_string(tokenizer, token))
      .set("logprob", log_json(log_probability))
      .set("bytes", bytes);
}

Json chat_logprobs(const Job& job, const Choice& choice) {
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

Json chat_json(const Job& job, const Choice& choice, const char* name, const Json& message) {
  Json json;
  json.set("index", static_cast<uint64_t>(choice.index)).set(name, message);
  json.set("logprobs", chat_logprobs(job, choice));
  json.set("finish_reason", choice.finish.empty() ? Json() : Json(choice.finish));
  if (!choice.state.empty()) json.set("state", choice.state);
  return json;
}

Json chat_choice(Job& job, const Choice& choice) {
  return chat_json(job, choice, "message",
                   Json().set("role", "assistant").set("content", choice.text).set("refusal", nullptr));
}

Json chat_delta(Job& job, const Choice& choice, bool is_first) {
  Json delta(Json::Object{});
  if (is_first) delta.set("role", "assistant");
  if (is_first || !choice.text.empty()) delta.set("content", choice.text);
  return chat_json(job, choice, "delta", delta);
}

constexpr Dialect kCompletion{"cmpl-", "text_completion", "text_completion", completion_choice,
                              completion_delta};
constexpr Dialect kChat{"chatcmpl-", "chat.completion", "chat.completion.chunk", chat_choice, chat_delta};

// ---- making texts ----

/// What a query that says nothing asks for.
GenerationConfig default_config(const ServedModel& served) {
  GenerationConfig config = served.model->generation;
  config.num_return_sequences = 1;
  return config;
}

void apply(TextQuery& query) {
  if (query.do_sample) query.config.sampling.do_sample = *query.do_sample;
  query.config.sampling.seed = query.seed.value_or(std::random_device{}());
  query.config.seed_given = true;
  if (query.prompts.size() * static_cast<size_t>(query.n) > kMostTexts)
    throw ApiError(400, concat("a request is for at most ", kMostTexts, " texts, n of each prompt"), "n");
  if (query.activity && !query.logprobs) throw ApiError(400, "'activity' needs 'logprobs'", "activity");
  if (query.return_state && !query.state_name.empty() &&
      query.prompts.size() * static_cast<size_t>(query.n) > 1)
    throw ApiError(400, "'return_state' can name the state of one text alone: use true", "return_state");
}

std::optional<KeptState> state_of(const Service& service, const ServedModel& served,
                                  const std::string& name) {
  if (name.empty()) return {};
  check_state_name(name);
  std::optional<KeptState> state = kept_state(service, served, name);
  if (!state) throw ApiError(404, concat("there is no state '", name, "'"), "state");
  return state;
}

void begin(Service& service, const HttpRequest& request, Job& job) {
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
      if (state) {
        one.from = state->session;
        one.continued.unread = state->text.unread;
      }
      job.offsets.push_back(query.echo ? 0 : characters(job.prompts.back()));
      requests.push_back(std::move(one));
    }
  }
  job.texts = std::make_unique<Texts>(
      job.served->scheduler, service.metrics, std::move(requests),
      TextsOptions{query.logprobs, query.echo, query.activity, service.options.seconds, request.is_gone});
}

/// The text has ended: counts it, keeps its state, and says why it ended.
void end(Service& service, Job& job, Choice& choice) {
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

Choice choice_of(Service& service, Job& job, TextPiece piece) {
  Choice choice{piece.text, std::move(piece.characters), std::move(piece.tokens), "", ""};
  if (piece.is_last) end(service, job, choice);
  return choice;
}

std::vector<Choice> all_choices(Service& service, Job& job) {
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

// ---- telling them ----

Json usage(const Job& job) {
  return Json()
      .set("prompt_tokens", job.prompt_tokens)
      .set("completion_tokens", job.text_tokens)
      .set("total_tokens", job.prompt_tokens + job.text_tokens)
      .set("prompt_tokens_details", Json().set("cached_tokens", job.cached_tokens));
}

Json head(const Job& job, const char* object) {
  return Json()
      .set("id", job.id)
      .set("object", object)
      .set("created", job.created)
      .set("model", job.served->id)
      .set("system_fingerprint", job.served->fingerprint)
      .set("seed", job.query.config.sampling.seed);
}

std::string event(const Json& json) { return "data: " + json.dump() + "\n\n"; }

/// False: the client takes no more.
bool send_pieces(Service& service, Job& job, const Dialect& dialect, const PieceWriter& write) {
  const auto send = [&](const Choice& choice, bool is_first) {
    Json json = head(job, dialect.chunk_object);
    json.set("choices", Json::Array{dialect.delta(job, choice, is_first)});
    if (job.query.include_usage) json.set("usage", nullptr);
    return write(event(json));
  };
  for (size_t i = 0; i < job.texts->count(); ++i) {
    const std::string echoed = job.query.echo ? job.prompts[i / static_cast<size_t>(job.query.n)] : "";
    if ((job.query.echo || dialect.prefix == kChat.prefix) && !send({i, echoed, {}, "", ""}, true))
      return false;
  }
  while (auto piece = job.texts->next()) {
    const Choice choice = choice_of(service, job, std::move(*piece));
    const bool says_something = !choice.text.empty() || !choice.finish.empty() || !choice.tokens.empty();
    if (says_something && !send(choice, false)) return false;
  }
  if (!job.query.include_usage) return true;
  Json json = head(job, dialect.chunk_object);
  return write(event(json.set("choices", Json(Json::Array{})).set("usage", usage(job))));
}

/// What goes wrong after the status was sent is an event of its own.
void send_stream(Service& service, Job& job, const Dialect& dialect, const PieceWriter& write) {
  try {
    if (send_pieces(service, job, dialect, write)) write("data: [DONE]\n\n");
  } catch (const ApiError& error) {
    write(event(error_json(error)));
  } catch (const Error& error) {
    write(event(error_json(ApiError(status_of(error.kind()), error.what()))));
  }
}

HttpReply answer(Service& service, const HttpRequest& request, const Dialect& dialect,
                 const Parameters<TextQuery>& parameters, bool is_chat) {
  const auto job = std::make_shared<Job>();
  const Json body = parse_body(request.body);
  const Json* model = body.find("model");
  job->served = model_named(service, model && model->is_string() ? model->as_string() : "");
  job->query.config = default_config(*job->served);
  if (!is_chat) job->query.config.max_new_tokens = 16;
  if (is_chat && job->query.config.stop.empty() && !service.chat_format.end().empty())
    job->query.config.stop = {service.chat_format.end()};
  job->query.config.max_new_tokens =
      std::min(job->query.config.max_new_tokens, service.options.limits.tokens);
  read_parameters(body, parameters, job->query);
  if (is_chat && !job->query.chat_logprobs.value_or(false)) {
    if (job->query.logprobs) throw ApiError(400, "'top_logprobs' needs 'logprobs': true", "top_logprobs");
  } else if (is_chat) {
    job->query.logprobs = job->query.logprobs.value_or(0);
  }
  job->id = new_id(dialect.prefix);
  apply(job->query);
  begin(service, request, *job);
  if (job->query.stream) {
    HttpReply reply{.type = "text/event-stream", .headers = {{"Cache-Control", "no-cache"}}};
    reply.stream = [&service, &dialect, job](const PieceWriter& write) {
      send_stream(service, *job, dialect, write);
    };
    return reply;
  }
  Json choices(Json::Array{});
  for (const Choice& choice : all_choices(service, *job)) choices.push(dialect.choice(*job, choice));
  return json_reply(head(*job, dialect.object).set("choices", choices).set("usage", usage(*job)));
}

HttpReply answer_generate(Service& service, const HttpRequest& request) {
  Job job;
  const Json body = parse_body(request.body);
  const Json* model = body.find("model");
  job.served = model_named(service, model && model->is_string() ? model->as_string() : "");
  job.query.config = default_config(*job.served);
  job.query.config.max_new_tokens = std::min<int64_t>(100, service.options.limits.tokens);
  job.query.config.sampling.temperature = 0.7f;
  job.query.config.sampling.do_sample = true;
  read_parameters(body, service.generate, job.query);
  job.query.echo = true;
  apply(job.query);
  begin(service, request, job);
  const Choice choice = all_choices(service, job).front();
  Json json;
  json.set("generated_text", choice.text).set("status", "success").set("finish_reason", choice.finish);
  json.set("seed", job.query.config.sampling.seed).set("usage", usage(job));
  if (!choice.state.empty()) json.set("state", choice.state);
  return json_reply(json);
}

/// As the document that describes it has it: {error, status: "error"}.
HttpReply generate_or_error(Service& service, const HttpRequest& request) {
  const auto told = [](int status, const std::string& message) {
    return json_reply(Json().set("error", message).set("status", "error"), status);
  };
  try {
    return answer_generate(service, request);
  } catch (const ApiError& error) {
    HttpReply reply = told(error.status, error.message);
    if (error.status == 429) reply.headers.emplace_back("Retry-After", "1");
    return reply;
  } catch (const Error& error) {
    return told(status_of(error.kind()), error.what());
  }
}

}  // namespace

void add_text_routes(const Service& service, std::vector<Route>& routes) {
  routes.push_back({"POST", "/v1/completions",
                    operation("Continue prompts", body_schema(service.completion), completion_schema(), true),
                    [](Service& s, const HttpRequest& request, const std::string&) {
                      return answer(s, request, kCompletion, s.completion, false);
                    },
                    Route::Body::json});
  routes.push_back({"POST", "/v1/chat/completions",
                    operation("Continue a conversation", body_schema(service.chat), chat_schema(), true),
                    [](Service& s, const HttpRequest& request, const std::string&) {
                      return answer(s, request, kChat, s.chat, true);
                    },
                    Route::Body::json});
  routes.push_back({"POST", "/generate",
                    operation("Continue a prompt", body_schema(service.generate), generate_schema(), false),
                    [](Service& s, const HttpRequest& request, const std::string&) {
                      return generate_or_error(s, request);
                    },
                    Route::Body::json});
}

}  // namespace bdh::tools
