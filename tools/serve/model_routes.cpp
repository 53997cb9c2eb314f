// /v1/models and /v1/embeddings.
#include <bit>
#include <utility>

#include "bdh/base/error.h"
#include "tools/serve/openapi.h"
#include "tools/serve/service.h"
#include "tools/serve/texts.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostInputs = 256;

Json model_json(const ServedModel& served) {
  Json json;
  json.set("id", served.id).set("object", "model").set("created", served.created).set("owned_by", "bdh");
  const Dimensions dims = served.model->config().dimensions();
  json.set("dimensions", Json()
                             .set("layers", dims.layers)
                             .set("heads", dims.heads)
                             .set("neurons", dims.neurons)
                             .set("width", dims.width)
                             .set("vocab", dims.vocab));
  if (!served.parent.empty()) json.set("parent", served.parent);
  return json;
}

HttpReply list_models(Service& service, const HttpRequest&, const std::string&) {
  Json data(Json::Array{});
  for (const ServedModelPointer& served : service.models.list()) data.push(model_json(*served));
  return json_reply(Json().set("object", "list").set("data", data));
}

HttpReply show_model(Service& service, const HttpRequest&, const std::string& id) {
  for (const ServedModelPointer& served : service.models.list())
    if (served->id == id) return json_reply(model_json(*served));
  throw ApiError(404, concat("there is no model '", id, "'"), "model");
}

// ---- embeddings ----

struct EmbeddingQuery {
  std::string model;
  std::vector<GivenPrompt> inputs;
  bool base64 = false;
};

void set_input(const Json& value, EmbeddingQuery& query) {
  const Json::Array one{value};
  const bool is_list = value.is_array() && !value.as_array().empty() && !value.as_array().front().is_number();
  const Json::Array& list = is_list ? value.as_array() : one;
  if (list.size() > kMostInputs)
    throw ApiError(400, concat("'input' must be at most ", kMostInputs, " texts"), "input");
  for (const Json& input : list) {
    if (input.is_string() && !input.as_string().empty()) {
      query.inputs.push_back({input.as_string(), {}});
    } else if (input.is_array() && !input.as_array().empty()) {
      query.inputs.push_back({"", tokens(input, "input")});
    } else {
      throw ApiError(
          400, "'input' must be a text that is not empty, an array of tokens, or an array of these", "input");
    }
  }
}

void set_encoding(const Json& value, EmbeddingQuery& query) {
  query.base64 = value == Json("base64");
  if (!query.base64 && value != Json("float"))
    throw ApiError(400, "'encoding_format' must be float or base64", "encoding_format");
}

Parameters<EmbeddingQuery> embedding_parameters() {
  const Json text_schema = schema_of("string", "").set("minLength", 1);
  const Json number = integer_schema("", 0, std::numeric_limits<int32_t>::max());
  const auto some = [](const Json& items) { return array_schema("", items).set("minItems", 1); };
  Json input;
  input.set("description", "the text, or its tokens; or several of them")
      .set("anyOf", Json::Array{text_schema, some(text_schema), some(number), some(some(number))});
  return {text("model", &EmbeddingQuery::model, "the model's name; with one model served it may be left out"),
          {"input", input, set_input, true},
          {"encoding_format", Json().set("enum", Json::Array{"float", "base64"}), set_encoding},
          without_effect<EmbeddingQuery>("user")};
}

std::string base64_of(std::span<const float> numbers) {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(numbers);
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? std::to_integer<uint32_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) text += i + j <= bytes.size() ? kLetters[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

/// The mean of x over the tokens of each input.
class Means {
 public:
  Means(size_t inputs, size_t width) : sums_(inputs, std::vector<double>(width)), counts_(inputs) {}

  void add(size_t input, const PromptPart& part) {
    const size_t width = sums_[input].size();
    for (size_t i = 0; i < part.x.size(); ++i) sums_[input][i % width] += part.x[i];
    counts_[input] += part.tokens.size();
  }
  std::vector<float> mean(size_t input) const {
    std::vector<float> mean;
    for (const double sum : sums_[input])
      mean.push_back(static_cast<float>(sum / static_cast<double>(counts_[input])));
    return mean;
  }

 private:
  std::vector<std::vector<double>> sums_;
  std::vector<size_t> counts_;
};

HttpReply embed(Service& service, const HttpRequest& request, const std::string&) {
  EmbeddingQuery query;
  read_parameters(parse_body(request.body), embedding_parameters(), query);
  const ServedModelPointer served = model_named(service, query.model);
  const auto means =
      std::make_shared<Means>(query.inputs.size(), static_cast<size_t>(served->model->config().n_embd));
  std::vector<TextRequest> requests;
  for (size_t i = 0; i < query.inputs.size(); ++i) {
    TextRequest& one = requests.emplace_back();
    one.prompt_tokens = prompt_tokens(service, *served, query.inputs[i], true);
    one.config.max_new_tokens = 0;
    one.wants_session = false;
    one.weights = served->model->weights;
    one.config.horizon = served->model->generation.horizon;
    one.prompt_x = true;
    one.on_prompt = [means, i](const PromptPart& part) { means->add(i, part); };
  }
  Texts texts(served->scheduler, service.metrics, std::move(requests),
              {{}, false, false, service.options.seconds, request.is_gone});
  while (texts.next()) {
  }
  Json data(Json::Array{});
  int64_t tokens = 0;
  for (size_t i = 0; i < texts.count(); ++i) {
    const std::vector<float> mean = means->mean(i);
    tokens += texts.result(i).text.prompt_tokens;
    Json json;
    json.set("object", "embedding").set("index", static_cast<uint64_t>(i));
    json.set("embedding", query.base64 ? Json(base64_of(mean)) : Json(Json::Array(mean.begin(), mean.end())));
    data.push(json);
  }
  return json_reply(Json()
                        .set("object", "list")
                        .set("data", data)
                        .set("model", served->id)
                        .set("usage", Json().set("prompt_tokens", tokens).set("total_tokens", tokens)));
}

}  // namespace

void add_model_routes(std::vector<Route>& routes) {
  routes.push_back({"GET", "/v1/models", operation("List the models", {}, list_schema(model_schema()), false),
                    list_models});
  routes.push_back({"GET", "/v1/models/{id}", operation("A model", {}, model_schema(), false), show_model});
  routes.push_back(
      {"POST", "/v1/embeddings",
       operation("Embed texts: the mean over a text's tokens of x, the vector that logits are made of",
                 body_schema(embedding_parameters()), list_schema(embedding_schema()), false),
       embed, Route::Body::json});
}

}  // namespace bdh::tools
