// Service: what every reply is made from.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "tools/serve/api_error.h"
#include "tools/serve/http_server.h"
#include "tools/serve/metrics.h"
#include "tools/serve/served_models.h"
#include "tools/serve/text_query.h"

namespace bdh::tools {

struct ServiceOptions {
  QueryLimits limits;
  int64_t prompt_tokens = int64_t{1} << 20;  // of one prompt, at most
  uint64_t body_bytes = uint64_t{4} << 20;   // of a request
  double seconds = 600;                      // for a request
  std::string chat_format = "{role}: {content}\n\n";
  std::vector<std::string> keys;  // SHA-256 of those that may ask; empty: anyone may
  std::string cors;               // Access-Control-Allow-Origin; "": none
};

struct Service;

/// What a request asks for: a method and a path, of which one part may be {id}.
struct Route {
  std::string method, path;
  Json operation;  // as openapi.json has it
  std::function<HttpReply(Service&, const HttpRequest&, const std::string& id)> answer;
  enum class Body : uint8_t { none, json, state } body = Body::none;
  bool needs_key = true;
};

struct Service {
  Service(ServedModels& served, ServiceOptions given);

  ServedModels& models;
  ServiceOptions options;
  ChatFormat chat_format;
  Parameters<TextQuery> completion, chat, generate;
  std::vector<Route> routes;
  Metrics metrics;
  std::atomic<bool> draining = false;
  std::atomic<int> active = 0;     // requests that are being answered
  std::atomic<int> transfers = 0;  // of states, up and down
};

/// A reply of JSON.
HttpReply json_reply(const Json& json, int status = 200);
/// "prefix-" and 24 random hexadecimal digits.
std::string new_id(std::string_view prefix);

/// The model of that name. Throws ApiError(404).
ServedModelPointer model_named(const Service& service, const std::string& name);
/// The prompt as tokens. Throws ApiError(400) for one that is too long.
std::vector<int32_t> prompt_tokens(const Service& service, const ServedModel& served,
                                   const GivenPrompt& prompt, bool begins);
/// The token as text; bytes that are no UTF-8 as "bytes:\xe2".
std::string token_string(const Tokenizer& tokenizer, int32_t token);

/// The state of that name, for that model. Throws ApiError for one of another model.
std::optional<KeptState> kept_state(const Service& service, const ServedModel& served,
                                    const std::string& name);
/// Throws ApiError(507) where it does not fit.
void keep_state(const Service& service, const std::string& name, KeptState state);

// ---- the routes, by what they are about ----

void add_text_routes(const Service& service, std::vector<Route>& routes);
void add_state_routes(std::vector<Route>& routes);
void add_model_routes(std::vector<Route>& routes);
void add_server_routes(std::vector<Route>& routes);

}  // namespace bdh::tools
