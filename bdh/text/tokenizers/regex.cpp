// PCRE2 with its just-in-time compiler, and limits on what a hostile expression may cost.
#include "bdh/text/tokenizers/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/oniguruma.h"
#include "bdh/text/tokenizers/text_budget.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kMaxPatternBytes = 100'000;
constexpr uint32_t kMatchLimit = 10'000'000;  // steps from one place in a text
constexpr uint32_t kDepthLimit = 100'000;
constexpr uint32_t kHeapLimitKiB = 64 * 1024;
constexpr size_t kJitStackStart = 32 * 1024, kJitStackLimit = 4 * 1024 * 1024;

template <auto release>
struct Release {
  template <class T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Release<pcre2_jit_stack_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Release<pcre2_compile_context_free>>;

/// PCRE2 calls it before each item of an expression.
int on_step(pcre2_callout_block*, void*) { return TextBudget::allows_step() ? 0 : PCRE2_ERROR_CALLOUT; }

/// What matching needs besides the expression; one for each thread.
struct Workspace {
  Workspace()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr)) {
    if (!data || !context || !stack) throw std::bad_alloc();
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKiB);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
    pcre2_set_callout(context.get(), on_step, nullptr);
  }
  MatchData data;
  MatchContext context;
  JitStack stack;
};

Workspace& workspace() {
  thread_local Workspace of_this_thread;
  return of_this_thread;
}

// The only expressions with them that PCRE2 is not asked for.
constexpr std::string_view kGraphemes = "\\X", kGraphemeBoundaries = "\\y";

void find_graphemes(std::string_view text, std::vector<Match>& matches) {
  size_t at = 0;
  each_grapheme(text, [&](std::string_view cluster) {
    matches.push_back({at, at + cluster.size()});
    at += cluster.size();
  });
}

void find_grapheme_boundaries(std::string_view text, std::vector<Match>& matches) {
  size_t at = 0;
  matches.push_back({at, at});
  each_grapheme(text, [&](std::string_view cluster) {
    at += cluster.size();
    matches.push_back({at, at});
  });
}

std::string message_of(int error) {
  if (error == PCRE2_ERROR_CALLOUT) return "it takes too long; the tokenizer is broken or made to do harm";
  std::array<PCRE2_UCHAR8, 256> buffer{};
  const int length = pcre2_get_error_message(error, buffer.data(), buffer.size());
  return std::string(buffer.data(), buffer.data() + std::max(length, 0));
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Release<pcre2_code_free>> compiled;
};

Regex::Regex(std::string_view pattern, std::string where) : where_(std::move(where)), pattern_(pattern) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorKind::bad_file, where_, ": the regular expression is longer than ", kMaxPatternBytes, " bytes");
  if (pattern == kGraphemes || pattern == kGraphemeBoundaries) return;
  const Pcre2Pattern rewritten = pcre2_pattern(pattern, where_);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                           PCRE2_AUTO_CALLOUT | (rewritten.atomic ? PCRE2_NO_AUTO_POSSESS : 0) |
                           (rewritten.looks_ahead ? PCRE2_NO_START_OPTIMIZE : 0);
  code->compiled.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.text.data()),
                                     rewritten.text.size(), options, &error, &offset, context.get()));
  if (!code->compiled)
    fail(ErrorKind::unsupported, where_, ": the regular expression ", printable(pattern),
         " is not valid, or not one that bdh supports: ", message_of(error));
  pcre2_jit_compile(code->compiled.get(), PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

void Regex::find_all(std::string_view text, std::vector<Match>& matches) const {
  matches.clear();
  if (pattern_ == kGraphemes) return find_graphemes(text, matches);
  if (pattern_ == kGraphemeBoundaries) return find_grapheme_boundaries(text, matches);
  const TextBudget budget(text.size());
  const Workspace& space = workspace();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() ? text.data() : "");
  const pcre2_code* code = code_->compiled.get();
  for (size_t at = 0; at <= text.size();) {
    const auto search = [&](uint32_t options) {
      return pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK | options, space.data.get(),
                         space.context.get());
    };
    int result = search(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = search(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0)
      fail(ErrorKind::bad_file, where_, ": the regular expression ", printable(pattern_),
           " cannot be matched against this text: ", message_of(result));
    const size_t* found = pcre2_get_ovector_pointer(space.data.get());
    const Match match{found[0], found[1]};
    const bool repeated = match.begin == match.end && !matches.empty() && matches.back().end == match.end;
    // \K inside a lookahead can end a match before its start or before the match before it.
    if (match.end < match.begin || match.end < at || (!matches.empty() && match.begin < matches.back().end))
      fail(ErrorKind::unsupported, where_, ": the regular expression ", printable(pattern_),
           " uses \\K in a way that bdh does not support");
    if (repeated) {
      at = match.end < text.size() ? match.end + character_bytes(text[match.end]) : text.size() + 1;
    } else {
      matches.push_back(match);
      at = match.end;
    }
  }
}

}  // namespace bdh::tokenizers
