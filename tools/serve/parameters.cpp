// Values of parameters and their schemas.
#include "tools/serve/parameters.h"

#include <cmath>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostTokens = size_t{1} << 24;

[[noreturn]] void refuse(const std::string& name, const std::string& rule) {
  throw ApiError(400, concat("'", name, "' must be ", rule), name);
}

}  // namespace

int64_t whole_number(const Json& value, const std::string& name, int64_t low, int64_t high) {
  const bool is_whole = value.is_number() && std::trunc(value.as_number()) == value.as_number() &&
                        std::abs(value.as_number()) < 9.2e18;
  const int64_t number = is_whole ? value.as_integer() : 0;
  if (!is_whole || number < low || number > high) {
    refuse(name, high == kMostNumber ? concat("a whole number from ", low, " on")
                                     : concat("a whole number from ", low, " to ", high));
  }
  return number;
}

double real_number(const Json& value, const std::string& name, double low, double high) {
  const double number = value.is_number() ? value.as_number() : std::nan("");
  if (!(number >= low && number <= high) || std::isinf(number)) {
    refuse(name, std::isinf(high) || high > 1e30 ? concat("a number from ", low, " on")
                                                 : concat("a number from ", low, " to ", high));
  }
  return number;
}

bool truth(const Json& value, const std::string& name) {
  if (!value.is_bool()) refuse(name, "true or false");
  return value.as_bool();
}

const std::string& words(const Json& value, const std::string& name) {
  if (!value.is_string()) refuse(name, "a string");
  return value.as_string();
}

std::vector<std::string> texts(const Json& value, const std::string& name, size_t most) {
  if (value.is_string()) return {value.as_string()};
  const std::string rule = concat("a string, or an array of at most ", most);
  if (!value.is_array() || value.as_array().size() > most) refuse(name, rule);
  std::vector<std::string> list;
  for (const Json& one : value.as_array()) {
    if (!one.is_string()) refuse(name, rule);
    list.push_back(one.as_string());
  }
  return list;
}

std::vector<int32_t> tokens(const Json& value, const std::string& name) {
  if (!value.is_array() || value.as_array().size() > kMostTokens) refuse(name, "an array of tokens");
  std::vector<int32_t> list;
  for (const Json& one : value.as_array())
    list.push_back(static_cast<int32_t>(whole_number(one, name, 0, std::numeric_limits<int32_t>::max())));
  return list;
}

Json schema_of(std::string_view type, std::string_view help) {
  Json schema;
  schema.set("type", type);
  if (!help.empty()) schema.set("description", help);
  return schema;
}

Json integer_schema(std::string_view help, int64_t low, int64_t high) {
  Json schema = schema_of("integer", help);
  schema.set("minimum", low);
  if (high != kMostNumber) schema.set("maximum", high);
  return schema;
}

Json number_schema(std::string_view help, double low, double high) {
  Json schema = schema_of("number", help);
  schema.set("minimum", low);
  if (std::isfinite(high)) schema.set("maximum", high);
  return schema;
}

Json array_schema(std::string_view help, Json items) {
  return schema_of("array", help).set("items", std::move(items));
}

Json or_null(Json schema) {
  const Json* type = schema.find("type");
  if (type && type->is_string()) {
    const Json both = Json::Array{*type, "null"};
    schema.set("type", both);
    return schema;
  }
  if (const Json* values = schema.find("enum")) {
    Json more = *values;
    more.push(nullptr);
    schema.set("enum", more);
    return schema;
  }
  if (const Json* any = schema.find("anyOf")) {
    Json more = *any;
    more.push(schema_of("null", ""));
    schema.set("anyOf", more);
  }
  return schema;
}

Json parse_body(const std::string& body) {
  try {
    Json json = Json::parse(body, "the request's body");
    if (json.is_object()) return json;
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  }
  throw ApiError(400, "the request's body must be a JSON object");
}

}  // namespace bdh::tools
