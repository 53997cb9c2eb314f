// The folds, asked of utf8proc once.
#include "bdh/text/tokenizers/case_folds.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

namespace bdh::tokenizers {
namespace {

constexpr char32_t kLastPlaneWithCase = 0x1FFFF;

std::u32string folded(char32_t c) {
  std::array<utf8proc_int32_t, 4> codes{};
  const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), codes.data(),
                                                         codes.size(), UTF8PROC_CASEFOLD, nullptr);
  std::u32string out;
  for (utf8proc_ssize_t i = 0; i < count && i < static_cast<utf8proc_ssize_t>(codes.size()); ++i)
    out += static_cast<char32_t>(codes[static_cast<size_t>(i)]);
  return out;
}

std::vector<CaseFold> all_folds() {
  std::vector<CaseFold> folds;
  for (char32_t c = 0x80; c <= kLastPlaneWithCase; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::u32string to = folded(c);
    if (to.size() > 1) folds.push_back({c, std::move(to)});
  }
  std::stable_sort(folds.begin(), folds.end(),
                   [](const CaseFold& a, const CaseFold& b) { return a.folded.size() < b.folded.size(); });
  return folds;
}

}  // namespace

const std::vector<CaseFold>& case_folds() {
  static const std::vector<CaseFold> folds = all_folds();
  return folds;
}

char32_t case_folded(char32_t c) {
  const std::u32string to = folded(c);
  return to.size() == 1 ? to[0] : c;
}

bool has_case(char32_t c) {
  const auto code = static_cast<utf8proc_int32_t>(c);
  return utf8proc_tolower(code) != code || utf8proc_toupper(code) != code || case_folded(c) != c;
}

}  // namespace bdh::tokenizers
