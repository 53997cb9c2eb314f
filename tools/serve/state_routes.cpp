// /v1/states: what a sequence remembers, kept by name, forked, sent and taken back.
#include <algorithm>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/model/session_file.h"
#include "bdh/model/synapses.h"
#include "tools/serve/openapi.h"
#include "tools/serve/service.h"
#include "tools/serve/texts.h"

namespace bdh::tools {
namespace {

constexpr int kMostTransfers = 2;  // at once: each holds a state's bytes once more
constexpr int64_t kSynapses = 24, kMostSynapses = 256, kMostTraced = 2048;
constexpr size_t kSources = 8;
constexpr const char* kOctets = "application/octet-stream";

struct StateQuery {
  std::string model, id;
  GivenPrompt prompt;
};

struct ForkQuery {
  std::string id;
};

/// A state's bytes on their way, of which there are few at once.
class Transfer {
 public:
  explicit Transfer(Service& service) : service_(service) {
    if (++service_.transfers <= kMostTransfers) return;
    --service_.transfers;
    throw ApiError(429, "as many states are on their way as the server takes; try again later");
  }
  ~Transfer() { --service_.transfers; }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

 private:
  Service& service_;
};

Parameters<StateQuery> state_parameters() {
  Json prompt;
  prompt.set("description", "the text that the state has read, or its tokens")
      .set("anyOf", Json::Array{schema_of("string", "").set("minLength", 1),
                                array_schema("", integer_schema("", 0, std::numeric_limits<int32_t>::max()))
                                    .set("minItems", 1)});
  return {text("model", &StateQuery::model, "the model's name; with one model served it may be left out"),
          {"id", schema_of("string", "the state's name; a new one by default"),
           [](const Json& value, StateQuery& query) {
             query.id = words(value, "id");
             check_state_name(query.id);
           }},
          {"prompt", prompt,
           [](const Json& value, StateQuery& query) {
             if (value.is_array()) {
               query.prompt.tokens = tokens(value, "prompt");
             } else {
               query.prompt.text = words(value, "prompt");
             }
           },
           true}};
}

Parameters<ForkQuery> fork_parameters() {
  return {{"id", schema_of("string", "the new state's name; a new one by default"),
           [](const Json& value, ForkQuery& query) {
             query.id = words(value, "id");
             check_state_name(query.id);
           }}};
}

Json state_json(const std::string& id, const KeptState& state) {
  return Json()
      .set("id", id)
      .set("object", "state")
      .set("tokens", state.session->position() + std::ssize(state.text.unread))
      .set("bytes", static_cast<uint64_t>(state.session->bytes()));
}

/// A name that is free: the one asked for, or a new one.
std::string free_name(const Service& service, const std::string& wanted) {
  if (wanted.empty()) return new_id("state-");
  if (service.models.states().contains(wanted))
    throw ApiError(409,
                   concat("there is a state '", wanted, "' already; DELETE it first, or choose another name"),
                   "id");
  return wanted;
}

/// The session after all tokens but the last, which is left to whoever goes on.
std::unique_ptr<Session> session_after(Service& service, const HttpRequest& request,
                                       const ServedModel& served, std::vector<int32_t> tokens) {
  if (tokens.empty()) {
    return std::make_unique<Session>(served.model->weights,
                                     SessionOptions{.horizon = served.model->generation.horizon,
                                                    .state_dtype = service.models.state_dtype()});
  }
  TextRequest read;
  read.prompt_tokens = std::move(tokens);
  read.config.max_new_tokens = 0;
  read.weights = served.model->weights;
  read.config.horizon = served.model->generation.horizon;
  std::vector<TextRequest> requests;
  requests.push_back(std::move(read));
  Texts texts(served.scheduler, service.metrics, std::move(requests),
              {{}, false, false, service.options.seconds, request.is_gone});
  while (texts.next()) {
  }
  return std::move(texts.result(0).session);
}

HttpReply make_state(Service& service, const HttpRequest& request, const std::string&) {
  StateQuery query;
  read_parameters(parse_body(request.body), state_parameters(), query);
  const ServedModelPointer served = model_named(service, query.model);
  const std::string name = free_name(service, query.id);
  std::vector<int32_t> tokens = prompt_tokens(service, *served, query.prompt, true);
  if (tokens.empty()) throw ApiError(400, "'prompt' is empty: give at least one character", "prompt");
  const int32_t vocab = static_cast<int32_t>(served->model->config().vocab_size);
  if (std::any_of(tokens.begin(), tokens.end(), [&](int32_t token) { return token >= vocab; }))
    throw ApiError(400, concat("'prompt': its tokens must be below ", vocab), "prompt");
  const int32_t last = tokens.back();
  tokens.pop_back();
  KeptState state{session_after(service, request, *served, std::move(tokens)), {{last}, {}, 0}};
  if (!state.session) throw ApiError(503, "the server is stopping");
  keep_state(service, name, state);
  return json_reply(state_json(name, state).set("model", served->id), 201);
}

HttpReply list_states(Service& service, const HttpRequest&, const std::string&) {
  std::vector<StateStore::Entry> entries = service.models.states().list();
  std::erase_if(entries,
                [](const StateStore::Entry& entry) { return entry.name.starts_with(PrefixCache::kPrefix); });
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  Json data(Json::Array{});
  for (const StateStore::Entry& entry : entries) {
    Json json;
    json.set("id", entry.name)
        .set("object", "state")
        .set("bytes", entry.bytes)
        .set("in_memory", entry.position.has_value());
    if (entry.position) json.set("tokens", *entry.position);
    data.push(json);
  }
  return json_reply(Json().set("object", "list").set("data", data));
}

/// The state, of whichever model it is.
KeptState require_state(const Service& service, const std::string& name) {
  check_state_name(name);
  for (const ServedModelPointer& served : service.models.list()) {
    try {
      if (auto state =
              service.models.states().find(name, served->model->weights, service.models.state_dtype()))
        return *state;
      break;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_file) throw;
    }
  }
  throw ApiError(404,
                 concat("there is no state '", name, "'",
                        service.models.states().contains(name) ? " of a model that is served" : ""),
                 "id");
}

HttpReply send_state(Service& service, const HttpRequest&, const std::string& id) {
  const KeptState state = require_state(service, id);
  const auto transfer = std::make_shared<Transfer>(service);
  SavedSession saved = state.session->save();
  saved.text = state.text;
  HttpReply reply{.type = kOctets};
  const auto bytes = std::make_shared<const std::vector<std::byte>>(session_bytes(saved));
  reply.headers.emplace_back("Content-Disposition", concat("attachment; filename=\"", id, ".session\""));
  reply.stream = [bytes, transfer](const PieceWriter& write) {
    constexpr size_t kPiece = 1 << 18;
    for (size_t at = 0; at < bytes->size(); at += kPiece) {
      const auto piece = std::span(*bytes).subspan(at, std::min(kPiece, bytes->size() - at));
      if (!write({reinterpret_cast<const char*>(piece.data()), piece.size()})) return;
    }
  };
  return reply;
}

/// The model whose session the file holds.
ServedModelPointer model_of(const Service& service, const SavedSession& saved) {
  const auto models = service.models.list();
  for (const ServedModelPointer& served : models)
    if (served->model->weights->hash() == saved.model) return served;
  if (models.size() == 1) return models.front();  // files of earlier versions; restoring says what is wrong
  throw ApiError(400, "the state is of a model that is not served here");
}

HttpReply take_state(Service& service, const HttpRequest& request, const std::string& id) {
  check_state_name(id);
  const Transfer transfer(service);
  const bool was_there = service.models.states().contains(id);
  KeptState state;
  try {
    const SavedSession saved = read_session(std::as_bytes(std::span(request.body)), "the request's body");
    const ServedModelPointer served = model_of(service, saved);
    state = {session_of(saved, served->model->weights, service.models.state_dtype(), "the request's body"),
             saved.text};
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::bad_file || error.kind() == ErrorKind::invalid_argument)
      throw ApiError(400, error.what());
    throw;
  }
  keep_state(service, id, state);
  return json_reply(state_json(id, state), was_there ? 200 : 201);
}

HttpReply fork_state(Service& service, const HttpRequest& request, const std::string& id) {
  ForkQuery query;
  if (!request.body.empty()) read_parameters(parse_body(request.body), fork_parameters(), query);
  const KeptState state = require_state(service, id);
  const std::string name = free_name(service, query.id);
  keep_state(service, name, state);
  return json_reply(state_json(name, state), 201);
}

/// ?top=N, at most kMostSynapses.
size_t wanted_synapses(const HttpRequest& request) {
  for (const auto& [name, value] : request.query) {
    const auto number = parse_number<int64_t>(value);
    if (name != "top" || !number || *number < 1 || *number > kMostSynapses)
      throw ApiError(400, concat("the query may be top=N, N from 1 to ", kMostSynapses), "top");
    return static_cast<size_t>(*number);
  }
  return kSynapses;
}

HttpReply show_synapses(Service& service, const HttpRequest& request, const std::string& id) {
  const size_t top = wanted_synapses(request);
  const KeptState state = require_state(service, id);
  if (state.session->position() > kMostTraced) {
    throw ApiError(400,
                   concat("the state has ", state.session->position(),
                          " tokens: synapses are traced to at most ", kMostTraced),
                   "id");
  }
  const Transfer transfer(service);
  const SavedSession saved = state.session->save(KeptForm::tokens);
  const Dimensions dims = state.session->weights().config().dimensions();
  std::vector<float> horizons = saved.horizon;
  if (horizons.size() == 1) horizons.resize(static_cast<size_t>(dims.heads), horizons.front());
  Json synapses(Json::Array{});
  for (const Synapse& synapse : strongest_synapses(saved.state, dims, horizons, top, kSources)) {
    Json sources(Json::Array{});
    for (const SynapseSource& source : synapse.sources)
      sources.push(Json().set("position", source.position).set("value", source.value));
    synapses.push(Json()
                      .set("layer", synapse.layer)
                      .set("head", synapse.head)
                      .set("neuron", synapse.neuron)
                      .set("dimension", synapse.dimension)
                      .set("value", synapse.value)
                      .set("sources", sources));
  }
  return json_reply(Json().set("tokens", saved.state.position).set("synapses", synapses));
}

HttpReply remove_state(Service& service, const HttpRequest&, const std::string& id) {
  check_state_name(id);
  if (!service.models.states().remove(id)) throw ApiError(404, concat("there is no state '", id, "'"), "id");
  return json_reply(Json().set("id", id).set("object", "state").set("deleted", true));
}

}  // namespace

std::optional<KeptState> kept_state(const Service& service, const ServedModel& served,
                                    const std::string& name) {
  const std::string problem = concat("the state '", name, "' is of another model than '", served.id, "'");
  try {
    auto state = service.models.states().find(name, served.model->weights, service.models.state_dtype());
    if (state && &state->session->weights() != served.model->weights.get())
      throw ApiError(400, problem, "state");
    return state;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::bad_file)
      throw ApiError(400, concat(problem, ": ", error.what()), "state");
    throw;
  }
}

void keep_state(const Service& service, const std::string& name, KeptState state) {
  if (!service.models.states().keep(name, std::move(state)))
    throw ApiError(507, "the state is larger than all that may be kept; give the server more --state-bytes");
}

void add_state_routes(std::vector<Route>& routes) {
  const Json one = state_schema();
  routes.push_back({"POST", "/v1/states",
                    operation("Make a state of a text", body_schema(state_parameters()), one, false, "201"),
                    make_state, Route::Body::json});
  routes.push_back(
      {"GET", "/v1/states", operation("List the states", {}, list_schema(one), false), list_states});
  routes.push_back(
      {"GET", "/v1/states/{id}", binary_operation("Download a state as a session file", true), send_state});
  routes.push_back({"PUT", "/v1/states/{id}", binary_operation("Upload a session file as a state", false),
                    take_state, Route::Body::state});
  Json synapses = operation("The strongest synapses of a state, and the tokens they came from", {},
                            synapses_schema(), false);
  synapses.set("parameters", Json::Array{Json()
                                             .set("name", "top")
                                             .set("in", "query")
                                             .set("schema", integer_schema("how many", 1, kMostSynapses))});
  routes.push_back({"GET", "/v1/states/{id}/synapses", std::move(synapses), show_synapses});
  routes.push_back(
      {"DELETE", "/v1/states/{id}", operation("Forget a state", {}, deleted_schema(), false), remove_state});
  routes.push_back({"POST", "/v1/states/{id}/fork",
                    operation("Copy a state", body_schema(fork_parameters()), one, false, "201"), fork_state,
                    Route::Body::json});
}

}  // namespace bdh::tools
