// Lines about the steps of a training run.
#include "tools/training/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/base/lines.h"
#include "bdh/base/memory.h"
#include "tools/cli/output.h"

namespace bdh::tools {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kQuiet = std::chrono::minutes(1);

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// The lines of a text as lines, other control characters written out.
void print_sample(int64_t step, const std::string& text) {
  std::fprintf(stderr, "bdh: a sample after step %lld:\n", static_cast<long long>(step));
  for (std::string_view rest = text; !rest.empty();)
    std::fprintf(stderr, "  | %s\n", one_line(next_line(rest)).c_str());
}

}  // namespace

TrainingProgress::TrainingProgress(int64_t first, int64_t steps)
    : line_("validating", "tokens"),
      first_(first),
      steps_(steps),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_),
      stayed_(start_) {
  line_.show(concat("step ", first + 1, " of ", steps, " under way"));
}

std::string TrainingProgress::seconds_left(int64_t step) const {
  if (step <= first_ || step >= steps_) return "";
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double left = seconds / static_cast<double>(step - first_) * static_cast<double>(steps_ - step);
  return ", " + clock_text(left) + " left";
}

std::string TrainingProgress::text_of(const StepMetrics& metrics) const {
  std::string text = concat("step ", metrics.step, " of ", steps_, number(": loss %.4f", metrics.loss));
  if (metrics.skipped) text += " (skipped)";
  if (metrics.valid_loss) text += number(", validation %.4f", *metrics.valid_loss);
  if (metrics.valid_bits_per_byte) text += number(" (%.4f bits per byte)", *metrics.valid_bits_per_byte);
  if (metrics.ema_valid_loss) text += number(", of the average %.4f", *metrics.ema_valid_loss);
  return text + number(", %.0f tokens/s", metrics.tokens_per_second) + seconds_left(metrics.step) + ", " +
         format_bytes(peak_resident_memory());
}

void TrainingProgress::stay(const StepMetrics& metrics) {
  stayed_ = Clock::now();
  erase();
  note(text_of(metrics));
  if (metrics.sample) print_sample(metrics.step, *metrics.sample);
}

void TrainingProgress::step(const StepMetrics& metrics) {
  step_ = metrics.step;
  const auto now = Clock::now();
  const bool quiet = !terminal_ && now - stayed_ >= kQuiet;
  if (metrics.valid_loss || metrics.sample || quiet) return stay(metrics);
  if (now - drawn_ < kRedraw) return;
  drawn_ = now;
  line_.show(text_of(metrics));
}

void TrainingProgress::validating(int64_t done, int64_t total) {
  const auto now = Clock::now();
  if (now - drawn_ < kRedraw) return;
  drawn_ = now;
  line_.show(concat("step ", step_, " of ", steps_, ": validating, ", done, " of ", total, " tokens"));
}

void TrainingProgress::warn(const std::string& problem) {
  erase();
  tools::warn(problem);
}

}  // namespace bdh::tools
