// /v1/completions, /v1/chat/completions and /generate: one way to make texts, three ways to tell them.
#include <algorithm>
#include <utility>

#include "bdh/base/error.h"
#include "tools/serve/dialects.h"
#include "tools/serve/openapi.h"
#include "tools/serve/service.h"
#include "tools/serve/text_job.h"

namespace bdh::tools {
namespace {

Json usage(const TextJob& job) {
  return Json()
      .set("prompt_tokens", job.prompt_tokens)
      .set("completion_tokens", job.text_tokens)
      .set("total_tokens", job.prompt_tokens + job.text_tokens)
      .set("prompt_tokens_details", Json().set("cached_tokens", job.cached_tokens));
}

Json head(const TextJob& job, const char* object) {
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
bool send_pieces(Service& service, TextJob& job, const Dialect& dialect, const PieceWriter& write) {
  const auto send = [&](const Choice& choice, bool is_first) {
    Json json = head(job, dialect.chunk_object);
    json.set("choices", Json::Array{dialect.delta(job, choice, is_first)});
    if (job.query.include_usage) json.set("usage", nullptr);
    return write(event(json));
  };
  for (size_t i = 0; i < job.texts->count(); ++i) {
    const std::string echoed = job.query.echo ? job.prompts[i / static_cast<size_t>(job.query.n)] : "";
    if ((job.query.echo || dialect.begins_with_role) && !send({i, echoed, {}, "", ""}, true)) return false;
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
void send_stream(Service& service, TextJob& job, const Dialect& dialect, const PieceWriter& write) {
  try {
    if (send_pieces(service, job, dialect, write)) write("data: [DONE]\n\n");
  } catch (const ApiError& error) {
    write(event(error_json(error)));
  } catch (const Error& error) {
    write(event(error_json(ApiError(status_of(error.kind()), error.what()))));
  }
}

/// The model that the body asks for.
ServedModelPointer model_of(const Service& service, const Json& body) {
  const Json* model = body.find("model");
  return model_named(service, model && model->is_string() ? model->as_string() : "");
}

HttpReply answer(Service& service, const HttpRequest& request, const Dialect& dialect) {
  const auto job = std::make_shared<TextJob>();
  const Json body = parse_body(request.body);
  job->served = model_of(service, body);
  job->id = new_id(dialect.prefix);
  GenerationConfig& config = job->query.config = default_config(*job->served);
  dialect.set_defaults(service, job->query);
  config.max_new_tokens = std::min(config.max_new_tokens, service.options.limits.tokens);
  read_parameters(body, dialect.parameters(service), job->query);
  complete(job->query);
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
  TextJob job;
  const Json body = parse_body(request.body);
  job.served = model_of(service, body);
  job.query.config = default_config(*job.served);
  job.query.config.max_new_tokens = std::min<int64_t>(100, service.options.limits.tokens);
  job.query.config.sampling.temperature = 0.7f;
  job.query.config.sampling.do_sample = true;
  read_parameters(body, service.generate, job.query);
  job.query.echo = true;
  complete(job.query);
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
    return told(error.status, error.message);
  } catch (const Error& error) {
    return told(status_of(error.kind()), error.what());
  }
}

}  // namespace

void add_text_routes(const Service& service, std::vector<Route>& routes) {
  routes.push_back({"POST", "/v1/completions",
                    operation("Continue prompts", body_schema(service.completion), completion_schema(), true),
                    [](Service& s, const HttpRequest& request, const std::string&) {
                      return answer(s, request, kCompletions);
                    },
                    Route::Body::json});
  routes.push_back(
      {"POST", "/v1/chat/completions",
       operation("Continue a conversation", body_schema(service.chat), chat_schema(), true),
       [](Service& s, const HttpRequest& request, const std::string&) { return answer(s, request, kChat); },
       Route::Body::json});
  routes.push_back({"POST", "/generate",
                    operation("Continue a prompt", body_schema(service.generate), generate_schema(), false),
                    [](Service& s, const HttpRequest& request, const std::string&) {
                      return generate_or_error(s, request);
                    },
                    Route::Body::json});
}

}  // namespace bdh::tools
