// JSON: simdjson's DOM copied into a plain value, and the writer.
#include "bdh/base/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "bdh/base/error.h"
#include "bdh/base/json_dom.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

namespace dom = simdjson::dom;

void reject_duplicates(const Json::Object& object, std::string_view source) {
  std::vector<std::string_view> keys;
  keys.reserve(object.size());
  for (const auto& [key, value] : object) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) {
    fail(ErrorKind::bad_file, source, ": not valid JSON: the key ", printable(*twice),
         " stands twice in one object; remove one");
  }
}

Json from_dom(dom::element element, std::string_view source, int depth);

Json from_array(dom::array elements, std::string_view source, int depth) {
  Json::Array array;
  for (const dom::element element : elements) array.push_back(from_dom(element, source, depth));
  return array;
}

Json from_object(dom::object members, std::string_view source, int depth) {
  Json::Object object;
  for (const auto [key, value] : members) object.emplace_back(key, from_dom(value, source, depth));
  reject_duplicates(object, source);
  return object;
}

Json from_container(dom::element element, std::string_view source, int depth) {
  if (depth > kMaxJsonDepth) {
    fail(ErrorKind::bad_file, source, ": not valid JSON: it is nested too deeply, more than ", kMaxJsonDepth,
         " levels; correct the file or get it again");
  }
  return element.is_array() ? from_array(dom_value<dom::array>(element), source, depth)
                            : from_object(dom_value<dom::object>(element), source, depth);
}

// `depth` containers lie around the element.
Json from_dom(dom::element element, std::string_view source, int depth) {
  switch (element.type()) {
    case dom::element_type::ARRAY:
    case dom::element_type::OBJECT:
      return from_container(element, source, depth + 1);
    case dom::element_type::INT64:
      return dom_value<int64_t>(element);
    case dom::element_type::UINT64:
      return dom_value<uint64_t>(element);
    case dom::element_type::DOUBLE:
      return dom_value<double>(element);
    case dom::element_type::STRING:
      return dom_value<std::string_view>(element);
    case dom::element_type::BOOL:
      return dom_value<bool>(element);
    default:
      return nullptr;
  }
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

template <class Integer>
bool fits(std::string_view digits) {
  Integer value{};
  return std::from_chars(digits.data(), digits.data() + digits.size(), value).ec == std::errc();
}

// The text with an exponent after every integer that no 64 bits hold, so that it reads as a double. Python
// writes such: transformers says "no limit" with 10^30.
std::string with_large_integers_as_doubles(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    if (in_string && text[i] == '\\') {
      end = std::min(i + 2, text.size());
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string && (is_digit(text[i]) || text[i] == '-')) {
      while (end < text.size() &&
             (is_digit(text[end]) || std::string_view(".eE+-").find(text[end]) != text.npos))
        ++end;
    }
    const std::string_view part = text.substr(i, end - i);
    out += part;
    const bool integer = !in_string && is_digit(part.back()) && part.find_first_of(".eE+") == part.npos;
    if (integer && !fits<uint64_t>(part) && !fits<int64_t>(part)) out += "e0";
    i = end;
  }
  return out;
}

std::string_view kind_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_bool()) return "a boolean";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "an array" : "an object";
}

// What the value holds, short enough for a message.
std::string found(const Json& value) {
  if (value.is_string()) return concat("the string ", printable(value.as_string()));
  if (value.is_number() || value.is_bool()) return value.dump();
  return std::string(kind_of(value));
}

[[noreturn]] void fail_type(std::string_view expected, const Json& value) {
  fail(ErrorKind::bad_file, "expected ", expected, ", found ", found(value));
}

}  // namespace

class JsonWriter {
 public:
  explicit JsonWriter(int indent) : indent_(indent) {}

  void write(const std::nullptr_t&) { out_ += "null"; }
  void write(bool value) { out_ += value ? "true" : "false"; }
  void write(int64_t value) { write_chars(value); }
  void write(uint64_t value) { write_chars(value); }

  // In the notation Python uses, always with a point or an exponent, so that it stays a double.
  void write(double value) {
    if (!std::isfinite(value)) return write(nullptr);
    const double magnitude = std::abs(value);
    const bool plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
    const size_t start = out_.size();
    write_chars(value, plain ? std::chars_format::fixed : std::chars_format::scientific);
    if (out_.find_first_of(".e", start) == std::string::npos) out_ += ".0";
  }

  void write(const std::string& text) {
    out_ += '"';
    for (std::string_view rest = text; !rest.empty();) {
      const auto plain = std::find_if_not(rest.begin(), rest.end(), is_plain) - rest.begin();
      out_ += rest.substr(0, static_cast<size_t>(plain));
      rest.remove_prefix(static_cast<size_t>(plain));
      rest.remove_prefix(write_special(rest));
    }
    out_ += '"';
  }

  void write(const Json::Array& array) {
    write_list('[', ']', array, [this](const Json& value) { visit(value); });
  }

  void write(const Json::Object& object) {
    write_list('{', '}', object, [this](const Json::Member& member) {
      write(member.first);
      out_ += ": ";
      visit(member.second);
    });
  }

  void visit(const Json& json) {
    std::visit([this](const auto& value) { write(value); }, json.value_);
  }

  std::string take() { return std::move(out_); }

 private:
  template <class... Number>
  void write_chars(Number... number) {
    std::array<char, 40> buffer;
    const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number...);
    out_.append(buffer.data(), result.ptr);
  }

  static bool is_plain(char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

  // Writes the character that `text` starts with, if any; returns how many bytes it took of text. A byte that
  // belongs to no UTF-8 character becomes U+FFFD.
  size_t write_special(std::string_view text) {
    constexpr std::string_view kReplacement = "\xef\xbf\xbd";
    if (text.empty()) return 0;
    const size_t length = utf8_length(text);
    if (length == 1)
      write_escaped(text[0]);
    else
      out_ += length == 0 ? kReplacement : text.substr(0, length);
    return std::max<size_t>(length, 1);
  }

  void write_escaped(char c) {
    constexpr std::string_view kNamed = "\"\\\b\f\n\r\t";
    constexpr std::string_view kNames = "\"\\bfnrt";
    constexpr std::string_view kDigits = "0123456789abcdef";
    const size_t named = kNamed.find(c);
    if (named != std::string_view::npos) {
      out_ += '\\';
      out_ += kNames[named];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out_ += c < 0x10 ? "\\u000" : "\\u001";
      out_ += kDigits[c & 15];
    } else {
      out_ += c;
    }
  }

  template <class List, class WriteOne>
  void write_list(char open, char close, const List& list, WriteOne write_one) {
    out_ += open;
    ++level_;
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out_ += indent_ > 0 ? "," : ", ";
      break_line();
      write_one(list[i]);
    }
    --level_;
    if (!list.empty()) break_line();
    out_ += close;
  }

  void break_line() {
    if (indent_ <= 0) return;
    out_ += '\n';
    out_.append(static_cast<size_t>(indent_) * static_cast<size_t>(level_), ' ');
  }

  int indent_;
  int level_ = 0;
  std::string out_;
};

Json Json::parse(std::string_view text, std::string_view source) {
  constexpr size_t kLongInteger = 19;  // digits that may be too many for 64 bits
  size_t run = 0;
  const bool plain = std::none_of(text.begin(), text.end(), [&](char c) {
    run = is_digit(c) ? run + 1 : 0;
    return run >= kLongInteger;
  });
  dom::parser parser;
  if (plain) return from_dom(parse_json_dom(parser, text, source), source, 0);
  const std::string rewritten = with_large_integers_as_doubles(text);
  return from_dom(parse_json_dom(parser, rewritten, source), source, 0);
}

bool Json::as_bool() const {
  if (!is_bool()) fail_type("true or false", *this);
  return std::get<bool>(value_);
}

int64_t Json::as_integer() const {
  constexpr double kLimit = 0x1p63;
  if (const auto* value = std::get_if<int64_t>(&value_)) return *value;
  const auto* real = std::get_if<double>(&value_);
  if (real == nullptr || std::trunc(*real) != *real || *real < -kLimit || *real >= kLimit) {
    fail_type("a whole number of 64 bits", *this);
  }
  return static_cast<int64_t>(*real);
}

double Json::as_number() const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (const auto* value = std::get_if<int64_t>(&value_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<uint64_t>(&value_)) return static_cast<double>(*value);
  fail_type("a number", *this);
}

const std::string& Json::as_string() const {
  if (!is_string()) fail_type("a string", *this);
  return std::get<std::string>(value_);
}

const Json::Array& Json::as_array() const {
  if (!is_array()) fail_type("an array", *this);
  return std::get<Array>(value_);
}

const Json::Object& Json::as_object() const {
  if (!is_object()) fail_type("an object", *this);
  return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
  const auto* object = std::get_if<Object>(&value_);
  if (object == nullptr) return nullptr;
  const auto member =
      std::find_if(object->begin(), object->end(), [&](const Member& m) { return m.first == key; });
  return member == object->end() ? nullptr : &member->second;
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  as_object();
  if (const Json* present = find(key)) {
    *const_cast<Json*>(present) = std::move(value);
  } else {
    std::get<Object>(value_).emplace_back(key, std::move(value));
  }
  return *this;
}

Json& Json::push(Json value) {
  if (is_null()) value_ = Array{};
  as_array();
  std::get<Array>(value_).push_back(std::move(value));
  return *this;
}

std::string Json::dump(int indent) const {
  JsonWriter writer(indent);
  writer.visit(*this);
  return writer.take();
}

}  // namespace bdh
