// Parameters: how the JSON of a request becomes a query; tables from which reading, refusals and the schemas
// of openapi.json are made.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "tools/serve/api_error.h"

namespace bdh::tools {

/// A member of a request's body. `set` throws ApiError naming it.
template <class Query>
struct Parameter {
  std::string name;
  Json schema;
  std::function<void(const Json& value, Query& query)> set;
  bool required = false;
};

template <class Query>
using Parameters = std::vector<Parameter<Query>>;

// ---- values; throw ApiError(400) that names the parameter ----

int64_t whole_number(const Json& value, const std::string& name, int64_t low, int64_t high);
double real_number(const Json& value, const std::string& name, double low, double high);
bool truth(const Json& value, const std::string& name);
const std::string& words(const Json& value, const std::string& name);
/// A text, or an array of at most so many.
std::vector<std::string> texts(const Json& value, const std::string& name, size_t most);
std::vector<int32_t> tokens(const Json& value, const std::string& name);

// ---- schemas ----

Json schema_of(std::string_view type, std::string_view help);
Json integer_schema(std::string_view help, int64_t low, int64_t high);
Json number_schema(std::string_view help, double low, double high);
Json array_schema(std::string_view help, Json items);
/// The same, or null.
Json or_null(Json schema);

// ---- tables ----

inline constexpr int64_t kMostNumber = std::numeric_limits<int64_t>::max();

template <class Query, class Owner>
Parameter<Query> whole(const std::string& name, int64_t Owner::*member, int64_t low, int64_t high,
                       std::string_view help) {
  return {name, integer_schema(help, low, high),
          [=](const Json& value, Query& query) { query.*member = whole_number(value, name, low, high); }};
}

template <class Query>
Parameter<Query> flag(const std::string& name, bool Query::*member, std::string_view help) {
  return {name, schema_of("boolean", help),
          [=](const Json& value, Query& query) { query.*member = truth(value, name); }};
}

template <class Query>
Parameter<Query> text(const std::string& name, std::string Query::*member, std::string_view help) {
  return {name, schema_of("string", help),
          [=](const Json& value, Query& query) { query.*member = words(value, name); }};
}

/// One that makes no difference, whatever its value.
template <class Query>
Parameter<Query> without_effect(const std::string& name) {
  return {name, Json().set("description", "makes no difference"), [](const Json&, Query&) {}};
}

/// One of which only such values are taken as make no difference.
template <class Query>
Parameter<Query> only(const std::string& name, const Json& values, const std::string& instead) {
  Json schema;
  schema.set("enum", values).set("description", "no other value: " + instead);
  return {name, schema, [=](const Json& value, Query&) {
            for (const Json& taken : values.as_array())
              if (value == taken ||
                  (value.is_number() && taken.is_number() && value.as_number() == taken.as_number()))
                return;
            throw ApiError(400, name + ": " + instead, name);
          }};
}

/// The body as JSON. Throws ApiError(400).
Json parse_body(const std::string& body);

/// Reads the members of an object, null as if it was not there. Throws ApiError(400) for one that is unknown,
/// missing or makes no sense.
template <class Query>
void read_parameters(const Json& body, const Parameters<Query>& parameters, Query& query) {
  for (const auto& [name, value] : body.as_object()) {
    const Parameter<Query>* found = nullptr;
    for (const Parameter<Query>& parameter : parameters)
      if (parameter.name == name) found = &parameter;
    if (!found) throw ApiError(400, "there is no parameter '" + name + "'", name);
    if (!value.is_null()) found->set(value, query);
  }
  for (const Parameter<Query>& parameter : parameters) {
    const Json* given = body.find(parameter.name);
    if (parameter.required && (!given || given->is_null()))
      throw ApiError(400, "the parameter '" + parameter.name + "' is missing", parameter.name);
  }
}

/// The schema of the object that read_parameters reads.
template <class Query>
Json body_schema(const Parameters<Query>& parameters) {
  Json properties(Json::Object{}), required(Json::Array{});
  for (const Parameter<Query>& parameter : parameters) {
    properties.set(parameter.name, parameter.required ? parameter.schema : or_null(parameter.schema));
    if (parameter.required) required.push(parameter.name);
  }
  Json schema = schema_of("object", "");
  schema.set("properties", properties).set("additionalProperties", false);
  if (!required.as_array().empty()) schema.set("required", required);
  return schema;
}

}  // namespace bdh::tools
