// The shapes of the learning rate.
#include "bdh/train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "bdh/base/error.h"

namespace bdh {

namespace {

constexpr std::array kShapes{
    std::pair{ScheduleShape::constant, std::string_view("constant")},
    std::pair{ScheduleShape::linear, std::string_view("linear")},
    std::pair{ScheduleShape::cosine, std::string_view("cosine")},
    std::pair{ScheduleShape::warmup_stable_decay, std::string_view("wsd")},
};

// How far `step` is from `first` (0) to `last` (1).
double progress(int64_t step, int64_t first, int64_t last) {
  if (step <= first) return 0;
  if (step >= last) return 1;
  return static_cast<double>(step - first) / static_cast<double>(last - first);
}

// The step before the first of the decay; the last step has the final rate.
int64_t decay_begin(const ScheduleOptions& schedule, int64_t steps) {
  const auto decay = static_cast<int64_t>(std::llround(schedule.decay_share * static_cast<double>(steps)));
  return std::max(schedule.warmup, steps - decay) - 1;
}

// 1 at the highest rate, 0 at the final one.
double height(const ScheduleOptions& schedule, int64_t step, int64_t steps) {
  const double past = progress(step, schedule.warmup, steps - 1);
  switch (schedule.shape) {
    case ScheduleShape::linear:
      return 1 - past;
    case ScheduleShape::cosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * past));
    case ScheduleShape::warmup_stable_decay:
      return 1 - progress(step, decay_begin(schedule, steps), steps - 1);
    case ScheduleShape::constant:
      break;
  }
  return 1;
}

}  // namespace

double rate_at(const ScheduleOptions& schedule, int64_t step, int64_t steps) {
  if (step < schedule.warmup)
    return schedule.rate * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  const double share = height(schedule, step, steps);
  return share * schedule.rate + (1 - share) * schedule.final_rate;
}

ScheduleShape parse_schedule(std::string_view name) {
  for (const auto& [shape, shape_name] : kShapes)
    if (shape_name == name) return shape;
  fail(ErrorKind::invalid_argument, "schedule '", name, "' is none of constant, linear, cosine and wsd");
}

std::string_view name_of(ScheduleShape shape) {
  for (const auto& [known, name] : kShapes)
    if (known == shape) return name;
  return "";
}

}  // namespace bdh
