// A text or a regular expression, looked for.
#include "bdh/text/tokenizers/pattern.h"

#include "bdh/text/tokenizers/text_budget.h"

namespace bdh::tokenizers {

Pattern::Pattern(const Fields& fields) {
  const Fields pattern = fields.object("pattern");
  if (pattern.find("Regex")) {
    regex_.emplace(pattern.string("Regex"), pattern.where("Regex"));
    return;
  }
  literal_ = pattern.short_string("String");
  if (literal_.empty()) regex_.emplace("", pattern.where("String"));  // a match between any two characters
}

void Pattern::find_all(std::string_view text, std::vector<Match>& matches) const {
  if (regex_) return regex_->find_all(text, matches);
  matches.clear();
  for (size_t at = text.find(literal_); at != text.npos; at = text.find(literal_, at + literal_.size()))
    matches.push_back({at, at + literal_.size()});
}

std::string replaced(std::string_view text, const std::vector<Match>& matches, std::string_view content) {
  size_t gone = 0;
  for (const Match& match : matches) gone += match.end - match.begin;
  const size_t put = matches.size() * content.size();
  if (put > gone) TextBudget::grow(put - gone);
  std::string out;
  out.reserve(text.size() - gone + put);
  size_t at = 0;
  for (const Match& match : matches) {
    out += text.substr(at, match.begin - at);
    out += content;
    at = match.end;
  }
  return out += text.substr(at);
}

}  // namespace bdh::tokenizers
