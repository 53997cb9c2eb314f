// Members of a JSON object with their types checked.
#include "bdh/text/tokenizers/fields.h"

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

/// read(json), with the place in front of its error.
template <class Read>
decltype(auto) checked(const std::string& where, Read read) {
  try {
    return read();
  } catch (const Error& error) {
    fail(ErrorKind::bad_file, where, ": ", error.what());
  }
}

int64_t integer_in(const Json& json, const std::string& where, int64_t low, int64_t high) {
  const int64_t value = checked(where, [&] { return json.as_integer(); });
  if (value < low || value > high)
    fail(ErrorKind::bad_file, where, ": expected a whole number in [", low, ", ", high, "], found ", value);
  return value;
}

}  // namespace

Fields::Fields(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {
  checked(where_, [&] { return &json.as_object(); });
}

const Json* Fields::find(std::string_view key) const {
  const Json* found = json_->find(key);
  return found && !found->is_null() ? found : nullptr;
}

const Json& Fields::required(std::string_view key) const {
  const Json* found = find(key);
  if (!found) fail(ErrorKind::bad_file, where_, ": '", key, "' is missing");
  return *found;
}

const std::string& Fields::string(std::string_view key) const {
  const Json& json = required(key);
  return checked(where(key), [&]() -> const std::string& { return json.as_string(); });
}

std::string Fields::string(std::string_view key, std::string_view fallback) const {
  return find(key) ? string(key) : std::string(fallback);
}

std::string Fields::short_string(std::string_view key) const {
  const std::string& text = string(key);
  if (text.size() > kMaxShortBytes)
    fail(ErrorKind::unsupported, where(key), ": has ", text.size(), " bytes, more than the ", kMaxShortBytes,
         " that bdh takes");
  return text;
}

std::string Fields::short_string(std::string_view key, std::string_view fallback) const {
  return find(key) ? short_string(key) : std::string(fallback);
}

std::optional<std::string> Fields::optional_string(std::string_view key) const {
  return find(key) ? std::optional(string(key)) : std::nullopt;
}

char32_t Fields::character(std::string_view key) const {
  const std::string& text = string(key);
  if (count_characters(text) != 1) fail(ErrorKind::bad_file, where(key), ": expected a single character");
  return character_at(text, 0).code;
}

bool Fields::boolean(std::string_view key) const {
  const Json& json = required(key);
  return checked(where(key), [&] { return json.as_bool(); });
}

bool Fields::boolean(std::string_view key, bool fallback) const {
  return find(key) ? boolean(key) : fallback;
}

int64_t Fields::integer(std::string_view key, int64_t low, int64_t high) const {
  return integer_in(required(key), where(key), low, high);
}

int64_t Fields::integer(std::string_view key, int64_t low, int64_t high, int64_t fallback) const {
  return find(key) ? integer(key, low, high) : fallback;
}

const Json::Array& Fields::array(std::string_view key) const {
  const Json& json = required(key);
  return checked(where(key), [&]() -> const Json::Array& { return json.as_array(); });
}

Fields Fields::object(std::string_view key) const { return {required(key), where(key)}; }

std::vector<Fields> Fields::objects(std::string_view key) const {
  std::vector<Fields> found;
  for (const Json& element : array(key))
    found.emplace_back(element, where(key) + "[" + std::to_string(found.size()) + "]");
  return found;
}

int32_t token_id(const Json& json, const std::string& where) {
  return static_cast<int32_t>(integer_in(json, where, 0, kTokenLimit - 1));
}

}  // namespace bdh::tokenizers
