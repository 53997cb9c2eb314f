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

// What stands for a number that JSON does not have, in a text that was rewritten for simdjson.
constexpr std::array<std::pair<std::string_view, double>, 3> kWords{{
    {"NaN", std::numeric_limits<double>::quiet_NaN()},
    {"Infinity", std::numeric_limits<double>::infinity()},
    {"-Infinity", -std::numeric_limits<double>::infinity()},
}};
constexpr char kWordMark = '\0';  // begins the string that stands for a word

class Copier {
 public:
  Copier(std::string_view source, bool rewritten) : source_(source), rewritten_(rewritten) {}

  // `depth` containers lie around the element.
  Json copy(dom::element element, int depth) const {
    switch (element.type()) {
      case dom::element_type::ARRAY:
      case dom::element_type::OBJECT:
        return container(element, depth + 1);
      case dom::element_type::INT64:
        return dom_value<int64_t>(element);
      case dom::element_type::UINT64:
        return dom_value<uint64_t>(element);
      case dom::element_type::DOUBLE:
        return dom_value<double>(element);
      case dom::element_type::STRING:
        return text(dom_value<std::string_view>(element));
      case dom::element_type::BOOL:
        return dom_value<bool>(element);
      default:
        return nullptr;
    }
  }

 private:
  Json text(std::string_view text) const {
    if (!rewritten_ || text.empty() || text[0] != kWordMark) return text;
    const auto word = std::find_if(kWords.begin(), kWords.end(),
                                   [&](const auto& known) { return known.first == text.substr(1); });
    return word == kWords.end() ? Json(text) : Json(word->second);
  }

  Json container(dom::element element, int depth) const {
    if (depth > kMaxJsonDepth) {
      fail(ErrorKind::bad_file, source_, ": not valid JSON: it is nested too deeply, more than ",
           kMaxJsonDepth, " levels; correct the file or get it again");
    }
    return element.is_array() ? array(dom_value<dom::array>(element), depth)
                              : object(dom_value<dom::object>(element), depth);
  }

  Json array(dom::array elements, int depth) const {
    Json::Array array;
    for (const dom::element element : elements) array.push_back(copy(element, depth));
    return array;
  }

  Json object(dom::object members, int depth) const {
    Json::Object object;
    for (const auto [key, value] : members) {
      if (!text(key).is_string())
        fail(ErrorKind::bad_file, source_, ": not valid JSON: a key is no string; correct the file");
      object.emplace_back(key, copy(value, depth));
    }
    reject_duplicates(object, source_);
    return object;
  }

  std::string_view source_;
  bool rewritten_;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

template <class Integer>
bool fits(std::string_view digits) {
  Integer value{};
  return std::from_chars(digits.data(), digits.data() + digits.size(), value).ec == std::errc();
}

// A number too large for a double: Python reads it as infinite.
bool overflows(std::string_view number) {
  double value = 0;
  const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
  return result.ec == std::errc::result_out_of_range && number.find_first_of("eE") != number.npos &&
         number.find("e-") == number.npos && number.find("E-") == number.npos;
}

std::string_view word_at(std::string_view text) {
  const auto word = std::find_if(kWords.begin(), kWords.end(),
                                 [&](const auto& known) { return text.starts_with(known.first); });
  return word == kWords.end() ? std::string_view() : word->first;
}

std::string standing_for(std::string_view word) { return concat("\"\\u0000", word, "\""); }

std::string rewritten_number(std::string_view number) {
  const bool integer = is_digit(number.back()) && number.find_first_of(".eE+") == number.npos;
  if (overflows(number)) return standing_for(number[0] == '-' ? "-Infinity" : "Infinity");
  const bool fits_64_bits = !integer || fits<uint64_t>(number) || fits<int64_t>(number);
  return concat(number, fits_64_bits ? "" : "e0");
}

// What Python writes and reads and simdjson does not: NaN, Infinity and -Infinity, numbers too large for a
// double, and integers beyond 64 bits, which read as doubles: transformers says "no limit" with 10^30.
std::string rewritten(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const std::string_view word = in_string ? std::string_view() : word_at(text.substr(i));
    size_t end = i + std::max<size_t>(word.size(), 1);
    if (!word.empty()) {
      out += standing_for(word);
    } else if (in_string && text[i] == '\\') {
      end = std::min(i + 2, text.size());
      out += text.substr(i, end - i);
    } else if (!in_string && (is_digit(text[i]) || text[i] == '-')) {
      while (end < text.size() &&
             (is_digit(text[end]) || std::string_view(".eE+-").find(text[end]) != text.npos))
        ++end;
      out += rewritten_number(text.substr(i, end - i));
    } else {
      if (text[i] == '"') in_string = !in_string;
      out += text[i];
    }
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
  JsonWriter(int indent, NonFinite non_finite) : indent_(indent), non_finite_(non_finite) {}

  void write(const std::nullptr_t&) { out_ += "null"; }
  void write(bool value) { out_ += value ? "true" : "false"; }
  void write(int64_t value) { write_chars(value); }
  void write(uint64_t value) { write_chars(value); }

  // In the notation Python uses, always with a point or an exponent, so that it stays a double.
  void write(double value) {
    if (!std::isfinite(value)) return write_word(value);
    const double magnitude = std::abs(value);
    const bool plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
    const size_t start = out_.size();
    write_chars(value, plain ? std::chars_format::fixed : std::chars_format::scientific);
    if (out_.find_first_of(".e", start) == std::string::npos) out_ += ".0";
  }

  void write_word(double value) {
    if (non_finite_ == NonFinite::null) return write(nullptr);
    out_ += std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
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
  NonFinite non_finite_;
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
  const bool python =
      !plain || text.find("NaN") != text.npos || text.find("Infinity") != text.npos || !is_json(parser, text);
  if (!python) return Copier(source, false).copy(parse_json_dom(parser, text, source), 0);
  const std::string other = rewritten(text);
  return Copier(source, true).copy(parse_json_dom(parser, other, source), 0);
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

std::string Json::dump(int indent, NonFinite non_finite) const {
  JsonWriter writer(indent, non_finite);
  writer.visit(*this);
  return writer.take();
}

}  // namespace bdh
