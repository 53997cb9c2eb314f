// Stop strings: what is held back, what passes, and that the cuts between pieces make no difference.
#include "bdh/text/stop_strings.h"

#include <doctest/doctest.h>

using namespace bdh;

namespace {

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

Outcome pass(const std::vector<std::string>& stops, const std::string& text, size_t piece) {
  StopStrings stream(stops);
  std::string passed;
  for (size_t at = 0; at < text.size(); at += piece) passed += stream.push(text.substr(at, piece));
  return {passed + stream.finish(), stream.stopped()};
}

void check(const std::vector<std::string>& stops, const std::string& text, const Outcome& expected) {
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    CAPTURE(text);
    CAPTURE(piece);
    const Outcome found = pass(stops, text, piece);
    CHECK(found.text == expected.text);
    CHECK(found.stopped == expected.stopped);
  }
}

}  // namespace

TEST_CASE("text ends before the stop string") {
  check({"END"}, "some text END and more END", {"some text ", true});
  check({"END"}, "ENDless", {"", true});
  check({"END"}, "no stop here EN", {"no stop here EN", false});
  check({}, "anything", {"anything", false});
  check({"a"}, "bca", {"bc", true});
}

TEST_CASE("a stop string that begins inside a failed one is found") {
  check({"aab"}, "aaab", {"a", true});
  check({"abab!"}, "ababab!", {"ab", true});
}

TEST_CASE("of several the one complete first counts, and of those the longest") {
  check({"abcX", "bc"}, "..abcX", {"..a", true});
  check({"bc", "abc"}, "..abc", {"..", true});
  check({"abc", "bc"}, "..abc", {"..", true});
  check({"xyz", "b"}, "abxyz", {"a", true});
}

TEST_CASE("what may begin a stop string is held back, and nothing else") {
  StopStrings stream({"\n\n", "User:"});
  CHECK(stream.push("one\n") == "one");
  CHECK(stream.push("two") == "\ntwo");
  CHECK(stream.push(" Us") == " ");
  CHECK(stream.push("e") == "");
  CHECK(stream.push("d\n") == "Used");
  CHECK(!stream.stopped());
  CHECK(stream.push("\nthree") == "");
  CHECK(stream.stopped());
  CHECK(stream.push("more") == "");
  CHECK(stream.finish() == "");
}
