// JSON: read with simdjson into a plain value, written by our own small writer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace bdh {

/// How a number that is not finite is written, which JSON does not have: as null, or as Python writes and
/// reads it.
enum class NonFinite : uint8_t { null, python };

/// A JSON value. Objects keep the order of their keys.
class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(uint64_t value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  /// Parses one JSON document. `source` names it in errors. Throws Error(bad_file) for anything that is not
  /// valid UTF-8 JSON, for duplicate keys, and for nesting deeper than 128. Integers beyond 64 bits become
  /// doubles; NaN, Infinity and -Infinity are read, as Python writes them.
  static Json parse(std::string_view text, std::string_view source);

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_integer() const {
    return std::holds_alternative<int64_t>(value_) || std::holds_alternative<uint64_t>(value_);
  }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  /// The value as that type. Throws Error(bad_file) saying what was expected and found. as_integer takes
  /// whole numbers that fit int64 (2 and 2.0); as_number takes any number.
  bool as_bool() const;
  int64_t as_integer() const;
  double as_number() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;

  /// The member with that key, or nullptr when there is none or this is no object.
  const Json* find(std::string_view key) const;
  /// Sets or appends a member; a null value becomes an object first.
  Json& set(std::string_view key, Json value);
  /// Appends an element; a null value becomes an array first.
  Json& push(Json value);

  /// JSON text: on one line with indent 0, else indented by that many spaces. Numbers are written so that
  /// they read back exactly; a byte that is no UTF-8 becomes U+FFFD.
  std::string dump(int indent = 0, NonFinite non_finite = NonFinite::null) const;

  bool operator==(const Json&) const = default;

 private:
  friend class JsonWriter;
  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, Object> value_ = nullptr;
};

}  // namespace bdh
