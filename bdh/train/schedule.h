// The learning rate as a pure function of the step.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bdh {

enum class ScheduleShape : uint8_t { constant, linear, cosine, warmup_stable_decay };

struct ScheduleOptions {
  ScheduleShape shape = ScheduleShape::constant;
  double rate = 1e-3;        // the highest
  double final_rate = 0;     // at the last step; constant has none
  int64_t warmup = 0;        // steps in which it rises from 0
  double decay_share = 0.2;  // of the steps, at the end: warmup_stable_decay alone
};

/// The rate of step [0, steps): (step + 1) / warmup of the highest while it rises, then as the shape says.
double rate_at(const ScheduleOptions& schedule, int64_t step, int64_t steps);

/// "constant", "linear", "cosine", "wsd". Throws Error(invalid_argument) naming those there are.
ScheduleShape parse_schedule(std::string_view name);
std::string_view name_of(ScheduleShape shape);

}  // namespace bdh
