// The document that describes the server, from the table of routes.
#include "tools/serve/openapi.h"

#include <utility>

#include "bdh/base/version.h"
#include "tools/serve/parameters.h"
#include "tools/serve/service.h"

namespace bdh::tools {
namespace {

Json object(Json properties, const Json::Array& required) {
  Json schema = schema_of("object", "");
  return schema.set("properties", std::move(properties)).set("required", required);
}

Json content(std::string_view type, const Json& schema) {
  return Json().set(type, Json().set("schema", schema));
}

Json response(std::string_view description, const Json& content) {
  return Json().set("description", description).set("content", content);
}

Json errors_and(std::string_view status, const Json& answer) {
  Json responses;
  responses.set(status, answer);
  responses.set("default", Json().set("$ref", "#/components/responses/Error"));
  return responses;
}

Json usage_schema() {
  const Json count = integer_schema("", 0, kMostNumber);
  return object(Json().set("prompt_tokens", count).set("total_tokens", count),
                Json::Array{"prompt_tokens", "total_tokens"});
}

Json texts_schema(std::string_view object_name, const char* told, const Json& told_schema) {
  const Json choice = object(Json()
                                 .set("index", integer_schema("", 0, kMostNumber))
                                 .set(told, told_schema)
                                 .set("finish_reason", Json().set("enum", Json::Array{"stop", "length"}))
                                 .set("state", schema_of("string", "where return_state asked for it")),
                             Json::Array{"index", told, "finish_reason"});
  return object(Json()
                    .set("id", schema_of("string", ""))
                    .set("object", Json().set("const", object_name))
                    .set("created", schema_of("integer", ""))
                    .set("model", schema_of("string", ""))
                    .set("seed", integer_schema("gives the same texts again", 0, kMostNumber))
                    .set("choices", array_schema("", choice))
                    .set("usage", usage_schema()),
                Json::Array{"id", "object", "created", "model", "choices", "usage"});
}

}  // namespace

Json operation(std::string_view summary, const Json& body, const Json& answer, bool streams,
               std::string_view status) {
  Json json;
  json.set("summary", summary);
  if (!body.is_null()) {
    const bool needed = body.find("required") != nullptr;
    json.set("requestBody", Json().set("required", needed).set("content", content("application/json", body)));
  }
  Json types = content("application/json", answer);
  if (streams) types.set("text/event-stream", Json(Json::Object{}));
  const char* what = streams ? "done; as a stream, a chunk in each event, and [DONE] at the end" : "done";
  return json.set("responses", errors_and(status, response(what, types)));
}

Json binary_operation(std::string_view summary, bool sends) {
  const Json bytes =
      content("application/octet-stream", Json().set("type", "string").set("format", "binary"));
  Json json;
  json.set("summary", summary);
  if (sends) return json.set("responses", errors_and("200", response("the session file", bytes)));
  const Json answer = response("taken", content("application/json", state_schema()));
  json.set("requestBody", Json().set("required", true).set("content", bytes));
  return json.set("responses", errors_and("200", answer).set("201", answer));
}

Json text_operation(std::string_view summary, std::string_view type) {
  return Json()
      .set("summary", summary)
      .set("responses", errors_and("200", response("done", content(type, schema_of("string", "")))));
}

Json completion_schema() { return texts_schema("text_completion", "text", schema_of("string", "")); }

Json chat_schema() {
  const Json message =
      object(Json().set("role", Json().set("const", "assistant")).set("content", schema_of("string", "")),
             Json::Array{"role", "content"});
  return texts_schema("chat.completion", "message", message);
}

Json generate_schema() {
  return object(Json()
                    .set("generated_text", schema_of("string", "the prompt and what continues it"))
                    .set("status", Json().set("const", "success")),
                Json::Array{"generated_text", "status"});
}

Json state_schema() {
  return object(Json()
                    .set("id", schema_of("string", ""))
                    .set("object", Json().set("const", "state"))
                    .set("tokens", integer_schema("that it has read, or will read first", 0, kMostNumber))
                    .set("bytes", integer_schema("", 0, kMostNumber)),
                Json::Array{"id", "object", "bytes"});
}

Json synapses_schema() {
  const Json count = integer_schema("", 0, kMostNumber), number = schema_of("number", "");
  const Json source =
      object(Json().set("position", count).set("value", number), Json::Array{"position", "value"});
  const Json synapse = object(Json()
                                  .set("layer", count)
                                  .set("head", count)
                                  .set("neuron", count)
                                  .set("dimension", count)
                                  .set("value", number)
                                  .set("sources", array_schema("the strongest first", source)),
                              Json::Array{"layer", "head", "neuron", "dimension", "value", "sources"});
  return object(Json().set("tokens", count).set("synapses", array_schema("the strongest first", synapse)),
                Json::Array{"tokens", "synapses"});
}

Json deleted_schema() {
  return object(Json().set("id", schema_of("string", "")).set("deleted", schema_of("boolean", "")),
                Json::Array{"id", "deleted"});
}

Json model_schema() {
  return object(Json()
                    .set("id", schema_of("string", ""))
                    .set("object", Json().set("const", "model"))
                    .set("created", schema_of("integer", ""))
                    .set("owned_by", schema_of("string", ""))
                    .set("parent", schema_of("string", "of an adapter: its model")),
                Json::Array{"id", "object", "created", "owned_by"});
}

Json embedding_schema() {
  Json vector;
  vector.set("anyOf", Json::Array{array_schema("", schema_of("number", "")),
                                  schema_of("string", "float32, little-endian, in base64")});
  return object(Json()
                    .set("object", Json().set("const", "embedding"))
                    .set("index", integer_schema("", 0, kMostNumber))
                    .set("embedding", vector),
                Json::Array{"object", "index", "embedding"});
}

Json list_schema(const Json& items) {
  return object(Json().set("object", Json().set("const", "list")).set("data", array_schema("", items)),
                Json::Array{"object", "data"});
}

Json openapi(const Service& service) {
  Json paths(Json::Object{});
  for (const Route& route : service.routes) {
    Json path = paths.find(route.path) ? *paths.find(route.path) : Json(Json::Object{});
    std::string method = route.method;
    for (char& letter : method) letter = static_cast<char>(letter + ('a' - 'A'));
    Json described = route.operation;
    if (route.path.find("{id}") != std::string::npos) {
      Json parameters = described.find("parameters") ? *described.find("parameters") : Json(Json::Array{});
      const Json name = schema_of("string", "").set("pattern", "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$");
      parameters.push(Json().set("name", "id").set("in", "path").set("required", true).set("schema", name));
      described.set("parameters", parameters);
    }
    if (!route.needs_key) described.set("security", Json(Json::Array{}));
    paths.set(route.path, path.set(method, described));
  }
  const Json error = object(
      Json().set("error", Json().set("anyOf", Json::Array{schema_of("object", ""), schema_of("string", "")})),
      Json::Array{"error"});
  Json components;
  components.set("responses",
                 Json().set("Error", response("what is wrong", content("application/json", error))));
  if (!service.options.keys.empty())
    components.set("securitySchemes", Json().set("key", Json().set("type", "http").set("scheme", "bearer")));
  Json document;
  document.set("openapi", "3.1.0");
  document.set("info", Json()
                           .set("title", "bdh")
                           .set("version", kVersion)
                           .set("description",
                                "BDH language models: texts, conversations, and the states of sequences."));
  document.set("paths", paths).set("components", components);
  if (!service.options.keys.empty())
    document.set("security", Json::Array{Json().set("key", Json(Json::Array{}))});
  return document;
}

}  // namespace bdh::tools
