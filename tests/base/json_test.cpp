// JSON: what is read, what is refused and in which words, and what is written.
#include "bdh/base/json.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "tests/support/thrown.h"

using namespace bdh;
using test::thrown_by;

namespace {

Json parse(std::string_view text) { return Json::parse(text, "config.json"); }

std::string repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

}  // namespace

TEST_CASE("json: values of every kind") {
  const Json json =
      parse(R"( {"a": [1, -2, 2.0, true, null], "b": {"c": "x\u00e9\n"}, "d": 18446744073709551615} )");
  const Json::Array& list = json.find("a")->as_array();
  CHECK(list[0].as_integer() == 1);
  CHECK(list[1].as_integer() == -2);
  CHECK(list[2].as_integer() == 2);
  CHECK_FALSE(list[2].is_integer());
  CHECK(list[2].as_number() == 2.0);
  CHECK(list[3].as_bool());
  CHECK(list[4].is_null());
  CHECK(json.find("b")->find("c")->as_string() == "xé\n");
  CHECK(json.find("d")->is_integer());
  CHECK(json.find("d")->as_number() == 18446744073709551615.0);
  const Json large =
      parse(R"([1000000000000000019884624838656, -9223372036854775809, "12345678901234567890123\"4"])");
  CHECK(large.as_array()[0].as_number() == 1e30);
  CHECK(large.as_array()[1].as_number() == -9223372036854775808.0);
  CHECK(large.as_array()[2].as_string() == "12345678901234567890123\"4");
  CHECK(thrown_by([&] { static_cast<void>(large.as_array()[0].as_integer()); }).kind == ErrorKind::bad_file);
  CHECK(json.find("e") == nullptr);
  CHECK(list[0].find("a") == nullptr);
  CHECK(parse("\"top\"").as_string() == "top");
  CHECK(parse(" \t\n7\r ").as_integer() == 7);
  CHECK(parse(R"("\ud83d\ude00")").as_string() == "😀");
}

TEST_CASE("json: keys keep their order") {
  const Json json = parse(R"({"z":1,"a":2,"m":3})");
  CHECK(json.dump() == R"({"z": 1, "a": 2, "m": 3})");
}

TEST_CASE("json: a value of another type is an error that shows it") {
  CHECK(thrown_by([] {
          parse("\"x\"").as_integer();
        }).says("expected a whole number of 64 bits, found the string 'x'"));
  CHECK(thrown_by([] { parse("2.5").as_integer(); }).says("found 2.5"));
  CHECK(thrown_by([] { parse("1e300").as_integer(); }).kind == ErrorKind::bad_file);
  CHECK(thrown_by([] { parse("9223372036854775808").as_integer(); }).says("9223372036854775808"));
  CHECK(thrown_by([] { parse("9223372036854775808.0").as_integer(); }).kind == ErrorKind::bad_file);
  CHECK(parse("-9223372036854775808.0").as_integer() == std::numeric_limits<int64_t>::min());
  CHECK(thrown_by([] { parse("[]").as_object(); }).says("expected an object, found an array"));
  CHECK(thrown_by([] { parse("{}").as_array(); }).says("expected an array, found an object"));
  CHECK(thrown_by([] { parse("null").as_string(); }).says("expected a string, found null"));
  CHECK(thrown_by([] { parse("1").as_bool(); }).says("expected true or false, found 1"));
  CHECK(thrown_by([] { parse("true").as_number(); }).says("expected a number, found true"));
}

TEST_CASE("json: what is not JSON is refused with its reason") {
  struct Case {
    std::string text;
    const char* fragment;
  };
  const Case cases[] = {
      {"", "it is empty"},
      {" \n", "it is empty"},
      {"{\"a\":1} x", "missing or misplaced"},
      {"1 2", "missing or misplaced"},
      {"[1,]", "not valid JSON"},
      {"{\"a\"}", "not valid JSON"},
      {"{a:1}", "not valid JSON"},
      {"{\"a\":1", "not valid JSON"},
      {"[1", "not valid JSON"},
      {"]", "not valid JSON"},
      {"[nul]", "a word other than true, false and null"},
      {"[truex]", "a word other than true, false and null"},
      {"[01]", "number is malformed"},
      {"[+1]", "not valid JSON"},
      {"[1.]", "number is malformed"},
      {"[.5]", "not valid JSON"},
      {"[0x10]", "number is malformed"},
      {"[0123456789012345678901]", "number is malformed"},
      {"[1234567890123456789012", "not valid JSON"},
      {"\"abc", "a string has no end"},
      {"\"a\nb\"", "unescaped control character"},
      {"\"\\x\"", "invalid escape"},
      {"\"\\u12\"", "invalid escape"},
      {"\"\\ud800\"", "not valid JSON"},
      {"\"\\udc00\"", "not valid JSON"},
      {"\"\\ud800\\u0041\"", "not valid JSON"},
      {"\"\\ud800x\\udc00\"", "not valid JSON"},
      {"'a'", "not valid JSON"},
      {"// c\n1", "not valid JSON"},
      {std::string("1\0", 2), "not valid JSON"},
      {std::string("{\"a\":1}\0", 8), "not valid JSON"},
      {"\"\xff\"", "not valid UTF-8"},
      {"\"\xc0\x80\"", "not valid UTF-8"},
      {"\"\xed\xa0\x80\"", "not valid UTF-8"},
      {"\xef\xbb\xbf{}", "byte order mark"},
      {"{\"a\":1,\"b\":2,\"a\":3}", "the key 'a' stands twice"},
      {"{\"a\":1,\"\\u0061\":3}", "the key 'a' stands twice"},
      {"[{\"x\":{\"k\\n\":1,\"k\\n\":1}}]", "the key 'k\\x0a' stands twice"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    const auto thrown = thrown_by([&] { parse(c.text); });
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK(thrown.message.substr(0, 13) == "config.json: ");
    CHECK_MESSAGE(thrown.says(c.fragment), thrown.message);
    CHECK(thrown.message.find('\n') == std::string::npos);
  }
}

TEST_CASE("json: nesting up to 128") {
  CHECK(parse(repeated("[", 128) + repeated("]", 128)).is_array());
  const auto too_deep = [](int depth) { return repeated("[", depth) + repeated("]", depth); };
  CHECK(thrown_by([&] { parse(too_deep(129)); }).says("nested too deeply"));
  CHECK(thrown_by([&] { parse(too_deep(1000)); }).says("nested too deeply"));
  CHECK(thrown_by([&] { parse(too_deep(1'000'000)); }).says("nested too deeply"));
  CHECK(thrown_by([] {
          parse(concat(repeated("{\"a\":", 200), "1", repeated("}", 200)));
        }).says("nested too deeply"));
  CHECK(thrown_by([] { parse(repeated("[", 1'000'000)); }).kind == ErrorKind::bad_file);
}

TEST_CASE("json: a large object is read, and its one duplicate found") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += concat("\"k", i, "\":0,");
  CHECK(parse(text + "\"last\":1}").as_object().size() == 200'001);
  CHECK(thrown_by([&] { parse(text + "\"k77\":1}"); }).says("the key 'k77' stands twice"));
}

TEST_CASE("json: written as Python writes it") {
  const Json json = parse(R"({"a":[1,[],{}],"b":{"c":"d"},"e":[]})");
  CHECK(json.dump() == R"({"a": [1, [], {}], "b": {"c": "d"}, "e": []})");
  CHECK(json.dump(2) ==
        "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ],\n  \"b\": {\n    \"c\": \"d\"\n  },\n  \"e\": []\n}");
  CHECK(Json(Json::Object{}).dump(2) == "{}");
}

TEST_CASE("json: escapes") {
  CHECK(Json("\"\\/\b\f\n\r\t\x01\x1f\x7f").dump() == "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
  CHECK(Json(std::string("\0", 1)).dump() == "\"\\u0000\"");
  CHECK(Json("é量😀\u2028").dump() == "\"é量😀\u2028\"");
  CHECK(Json("a\xff\xc3"
             "b")
            .dump() ==
        "\"a\uFFFD\uFFFD"
        "b\"");
  const Json json("\x01\x02\"\\\n é");
  CHECK(parse(json.dump()) == json);
}

TEST_CASE("json: numbers stay what they are") {
  CHECK(Json(1.0).dump() == "1.0");
  CHECK(Json(-0.0).dump() == "-0.0");
  CHECK(Json(0.1).dump() == "0.1");
  CHECK(Json(100000.0).dump() == "100000.0");
  CHECK(Json(1e15).dump() == "1000000000000000.0");
  CHECK(Json(1e16).dump() == "1e+16");
  CHECK(Json(0.0001).dump() == "0.0001");
  CHECK(Json(1e-5).dump() == "1e-05");
  CHECK(Json(5e-324).dump() == "5e-324");
  CHECK(Json(1.7976931348623157e308).dump() == "1.7976931348623157e+308");
  CHECK(Json(INFINITY).dump() == "null");
  CHECK(Json(std::nan("")).dump() == "null");
  CHECK(Json(std::numeric_limits<int64_t>::min()).dump() == "-9223372036854775808");
  CHECK(Json(std::numeric_limits<uint64_t>::max()).dump() == "18446744073709551615");
  CHECK_FALSE(parse("1") == parse("1.0"));
}

TEST_CASE("json: doubles read back exactly") {
  std::mt19937_64 random(3);
  int wrong = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    wrong += !(parse(Json(value).dump()) == Json(value));
  }
  CHECK(wrong == 0);
}

TEST_CASE("json: set and push build values") {
  Json json;
  json.set("a", 1).set("b", Json().push("x").push(2.5)).set("a", nullptr);
  CHECK(json.dump() == R"({"a": null, "b": ["x", 2.5]})");
  CHECK(thrown_by([] { Json(1).set("a", 1); }).kind == ErrorKind::bad_file);
  CHECK(thrown_by([] { Json("x").push(1); }).kind == ErrorKind::bad_file);
}

TEST_CASE("json: mutated text is read or refused, nothing else") {
  const std::string original =
      R"({"model":{"n":[1,-2.5e3,18446744073709551615],"s":"a\u00e9\n\ud83d\ude00é","t":true},"z":null})";
  constexpr std::string_view kPieces = "{}[]\",:\\0-9e.tfnu \xff\xc3";
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = original;
    for (int edits = static_cast<int>(random() % 3); edits >= 0; --edits) {
      const size_t at = random() % text.size();
      const char piece = kPieces[random() % kPieces.size()];
      if (random() % 2 == 0)
        text[at] = piece;
      else
        text.insert(at, 1, piece);
    }
    bool same = true;
    const auto thrown = thrown_by([&] {
      const Json json = parse(text);
      const std::string written = json.dump(2, NonFinite::python);
      same = parse(written).dump(2, NonFinite::python) == written;
    });
    CHECK(same);
    refused += thrown.kind == ErrorKind::bad_file;
    CHECK((!thrown.kind || thrown.kind == ErrorKind::bad_file));
  }
  CHECK(refused > 1000);
  CHECK(refused < 5000);
}

TEST_CASE("json: numbers that are not finite, as Python writes and reads them") {
  const Json json =
      parse(R"({"a": [NaN, Infinity, -Infinity, 1e400, -1e999], "NaN": "Infinity \" NaN", "b": 1e-400})");
  const Json::Array& numbers = json.find("a")->as_array();
  CHECK(std::isnan(numbers[0].as_number()));
  for (const size_t i : {1, 3}) CHECK(numbers[i].as_number() == std::numeric_limits<double>::infinity());
  for (const size_t i : {2, 4}) CHECK(numbers[i].as_number() == -std::numeric_limits<double>::infinity());
  CHECK(json.find("NaN")->as_string() == "Infinity \" NaN");
  CHECK(json.find("b")->as_number() == 0);
  CHECK(json.find("a")->dump() == "[null, null, null, null, null]");
  CHECK(json.find("a")->dump(0, NonFinite::python) == "[NaN, Infinity, -Infinity, Infinity, -Infinity]");
  for (const char* text :
       {"[nan]", "[Nan]", "[NaNs]", "[-NaN]", "[infinity]", "[+Infinity]", "[Infinity", "NaN1", "{NaN: 1}"})
    CHECK(thrown_by([&] { parse(text); }).kind == ErrorKind::bad_file);
}
