// The learning rate's shapes against their closed forms.
#include "bdh/train/schedule.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

TEST_CASE("a rate rises by equal steps, and is the highest when the warm-up ends") {
  for (const ScheduleShape shape : {ScheduleShape::constant, ScheduleShape::linear, ScheduleShape::cosine,
                                    ScheduleShape::warmup_stable_decay}) {
    const ScheduleOptions schedule{.shape = shape, .rate = 0.8, .warmup = 4};
    for (int64_t step = 0; step < 4; ++step)
      CHECK(rate_at(schedule, step, 100) == doctest::Approx(0.2 * static_cast<double>(step + 1)));
    CHECK(rate_at(schedule, 4, 100) == doctest::Approx(0.8));
  }
}

TEST_CASE("a constant rate stays, whatever the final rate") {
  const ScheduleOptions schedule{.rate = 0.5, .final_rate = 0.1};
  for (const int64_t step : {0, 50, 99, 1000}) CHECK(rate_at(schedule, step, 100) == 0.5);
}

TEST_CASE("linear and cosine go from the highest rate to the final one") {
  const ScheduleOptions linear{.shape = ScheduleShape::linear, .rate = 1, .final_rate = 0.1, .warmup = 10};
  ScheduleOptions cosine = linear;
  cosine.shape = ScheduleShape::cosine;
  for (int64_t step = 10; step < 111; ++step) {
    const double past = static_cast<double>(step - 10) / 100;
    CHECK(rate_at(linear, step, 111) == doctest::Approx(1 - 0.9 * past));
    CHECK(rate_at(cosine, step, 111) ==
          doctest::Approx(0.1 + 0.9 * (1 + std::cos(std::numbers::pi * past)) / 2));
  }
  CHECK(rate_at(cosine, 110, 111) == doctest::Approx(0.1));
  CHECK(rate_at(linear, 500, 111) == doctest::Approx(0.1));
}

TEST_CASE("warmup-stable-decay stays until its last share, then falls by equal steps") {
  const ScheduleOptions schedule{.shape = ScheduleShape::warmup_stable_decay,
                                 .rate = 1,
                                 .final_rate = 0,
                                 .warmup = 5,
                                 .decay_share = 0.2};
  for (int64_t step = 5; step < 80; ++step) CHECK(rate_at(schedule, step, 100) == 1);
  for (int64_t step = 80; step < 100; ++step)
    CHECK(rate_at(schedule, step, 100) == doctest::Approx(1 - static_cast<double>(step - 79) / 20));
}

TEST_CASE("a schedule of one step has the highest rate") {
  CHECK(rate_at({.shape = ScheduleShape::linear, .rate = 2}, 0, 1) == 2);
  CHECK(rate_at({.shape = ScheduleShape::cosine, .rate = 2}, 0, 1) == 2);
}

TEST_CASE("names of schedules") {
  for (const char* name : {"constant", "linear", "cosine", "wsd"})
    CHECK(name_of(parse_schedule(name)) == name);
  const Thrown thrown = thrown_by([] { parse_schedule("exponential"); });
  CHECK(thrown.kind == ErrorKind::invalid_argument);
  CHECK(thrown.says("'exponential' is none of constant, linear, cosine and wsd"));
}
