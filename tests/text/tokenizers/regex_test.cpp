// Regular expressions: the pieces that the `tokenizers` package cut, and what is refused by name.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/text/tokenizers/regex.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::ErrorKind;
using bdh::Json;
using bdh::tokenizers::Match;
using bdh::tokenizers::Regex;

Json matches_of(const Regex& regex, const std::string& text) {
  std::vector<Match> matches;
  regex.find_all(text, matches);
  Json::Array ends;
  for (const Match& match : matches) {
    ends.emplace_back(static_cast<int64_t>(match.begin));
    ends.emplace_back(static_cast<int64_t>(match.end));
  }
  return ends;
}

/// For each text where the matches begin and end, or why there are none.
Json answers_to(const Json& question) {
  Json::Array answers;
  const bdh::test::Thrown thrown = bdh::test::thrown_by([&] {
    const Regex regex(question.find("pattern")->as_string(), "test");
    for (const Json& text : question.find("texts")->as_array())
      answers.push_back(matches_of(regex, text.as_string()));
  });
  if (!thrown.kind) return answers;
  Json error;
  error.set("kind", std::string(thrown.kind == ErrorKind::unsupported ? "unsupported" : "invalid"));
  error.set("message", thrown.message);
  return error;
}

/// The text cut at the ends of every match.
std::vector<std::string> pieces(const Regex& regex, const std::string& text) {
  std::vector<Match> matches;
  regex.find_all(text, matches);
  std::vector<std::string> found;
  size_t at = 0;
  const auto cut = [&](size_t end) {
    if (end > at) found.push_back(text.substr(at, end - at));
    at = end;
  };
  for (const Match& match : matches) {
    cut(match.begin);
    cut(match.end);
  }
  cut(text.size());
  return found;
}

}  // namespace

// tests/data/tokenizers/regex.json was written by tests/parity/regex_parity.py.
TEST_CASE("tokenizers: regular expressions cut texts as the package does") {
  const std::string file = std::string(bdh::test::kTestData) + "/tokenizers/regex.json";
  const Json cases = Json::parse(bdh::test::read_file(file), file);
  CHECK(cases.as_array().size() > 100);
  for (const Json& one : cases.as_array()) {
    CAPTURE(one.find("pattern")->as_string());
    const Regex regex(one.find("pattern")->as_string(), "test");
    for (size_t i = 0; i < one.find("texts")->as_array().size(); ++i) {
      const std::string& text = one.find("texts")->as_array()[i].as_string();
      CAPTURE(text);
      std::vector<std::string> expected;
      for (const Json& piece : one.find("pieces")->as_array()[i].as_array())
        expected.push_back(piece.as_string());
      CHECK(pieces(regex, text) == expected);
    }
  }
}

TEST_CASE("tokenizers: regular expressions that cannot be exact are refused by name") {
  const auto refusal = [](const char* pattern) {
    return bdh::test::thrown_by([&] { Regex(pattern, "test"); });
  };
  for (const auto& refused : std::vector<std::pair<const char*, const char*>>{
           {"\\Xa", "a grapheme cluster"},
           {"a\\y", "a boundary of grapheme clusters"},
           {"(?~ab)", "a kind of group"},
           {"()(?(1)a|b)", "a kind of group"},
           {"(?W)\\w", "a kind of group or an option"},
           {"(*FAIL)", "a callout"},
           {"\\M-a", "a byte beyond ASCII"},
           {"\\xe3\\x81\\x82", "a byte beyond ASCII"},
           {"\\x{41 42}", "several characters"},
           {"(a)\\k<1+0>", "an unknown name or a level"},
           {"(a)\\g<1>\\1", "references and calls"},
           {"(?<n>a)(?<n>b)\\k<n>", "several groups of one name"},
           {"[a-[b]]", "a class at the end of a range"},
           {"[a&&]", "an intersection with an empty class"},
           {"(?i)[a-z&&[^k]]", "an intersection of classes without regard to case"},
           {"(?i)[[:upper:]]", "depends on case"},
           {"(?i)\u00df", "several ones without regard to case"},
           {"(?i)ffi", "another one stands for"},
           {"(?i)(a)\\1", "without regard to case"},
           {"\\p{Grapheme_Extend}", "an unknown name"},
           {"\\p{Nonsense}", "unknown property"},
           {"(?<=(?:a|bc)d)e", "lookbehind"},
       }) {
    CAPTURE(refused.first);
    const bdh::test::Thrown thrown = refusal(refused.first);
    CHECK(thrown.kind == ErrorKind::unsupported);
    CHECK_MESSAGE(thrown.says(refused.second), thrown.message);
  }
  for (const char* pattern : {"(", ")", "[]", "*", "a|{2}", "^*", "(?<n>a)\\1", "\\x{110000}", "\\u12", "\\",
                              "[z-a]", "[a-\\d]", "a{100001}", "(?<1>a)", "\\g<n>", "(?#a", "\\C"}) {
    CAPTURE(pattern);
    CHECK(refusal(pattern).kind == ErrorKind::bad_file);
  }
}

// Driven by tests/parity/regex_parity.py, which sets the variable: questions.jsonl, answers.jsonl.
TEST_CASE("parity: regular expressions") {
  const char* directory = std::getenv("BDH_PARITY_REGEX");
  if (directory == nullptr) return;
  std::ifstream questions(fs::path(directory) / "questions.jsonl");
  std::ofstream answers(fs::path(directory) / "answers.jsonl");
  for (std::string line; std::getline(questions, line);)
    answers << answers_to(Json::parse(line, "a question")).dump() << '\n';
}
