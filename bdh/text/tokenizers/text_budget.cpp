// TextBudget: what a tokenizer.json may make the work on one text cost.
#include "bdh/text/tokenizers/text_budget.h"

#include <time.h>

#include <algorithm>
#include <cstdint>

#include "bdh/base/error.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kMostBytes = 1'000'000'000;  // of a text, as far as its budget goes
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kTime = kSecond, kTimeForAByte = 20'000;  // nanoseconds; usual are 20 for a byte
constexpr size_t kGrowth = 16'000'000, kGrowthForAByte = 64;
constexpr uint32_t kStepsBetweenLooks = 1024;  // at the clock

struct Left {
  bool limited = false;
  int64_t time = 0;  // nanoseconds
  int64_t end = 0;   // the time that must not be reached; 0 before the first look at the clock
  size_t growth = 0;
  uint32_t steps = 0;
};

Left& left() {
  thread_local Left of_this_thread;
  return of_this_thread;
}

/// This thread's time, which does not go on while others compute.
int64_t processor_time() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

}  // namespace

TextBudget::TextBudget(size_t text_bytes) : outermost_(!left().limited) {
  if (!outermost_) return;
  const size_t bytes = std::min(text_bytes, kMostBytes);
  left() = {true, kTime + kTimeForAByte * static_cast<int64_t>(bytes), 0, kGrowth + kGrowthForAByte * bytes};
}

TextBudget::~TextBudget() {
  if (outermost_) left().limited = false;
}

bool TextBudget::allows_step() {
  Left& budget = left();
  if (++budget.steps % kStepsBetweenLooks != 0) return true;
  const int64_t now = processor_time();
  if (budget.end == 0) budget.end = now + budget.time;
  return now <= budget.end;
}

void TextBudget::grow(size_t bytes) {
  Left& budget = left();
  if (!budget.limited) return;
  if (bytes > budget.growth) {
    fail(ErrorKind::bad_file,
         "tokenizer.json: its replacements make a text many times as long; it is broken or made to do harm");
  }
  budget.growth -= bytes;
}

}  // namespace bdh::tokenizers
