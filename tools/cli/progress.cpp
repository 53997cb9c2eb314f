// A progress line on a terminal: done, total, rate, time left. Silent when stderr is no terminal.
#include "tools/cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "tools/cli/interrupt.h"

namespace bdh::tools {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);

}  // namespace

std::string clock_text(double seconds) {
  char text[64];
  const auto whole = static_cast<long long>(seconds);
  if (whole < 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  return text;
}

Progress::Progress(std::string what, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() { erase(); }

bool Progress::update(int64_t done, int64_t total) {
  const auto now = Clock::now();
  if (!terminal_ || now - last_ < kRedraw) return !interrupted();
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done) / seconds;
  std::string line = what_ + " " + std::to_string(done);
  if (total > 0) line += " of " + std::to_string(total);
  line += " " + unit_ + ", " + std::to_string(static_cast<int64_t>(rate)) + " a second";
  if (total > done && done > 0) line += ", " + clock_text(static_cast<double>(total - done) / rate) + " left";
  show(line);
  return !interrupted();
}

void Progress::show(const std::string& line) {
  if (!terminal_) return;
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  drawn_ = true;
}

void Progress::erase() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

}  // namespace bdh::tools
