// Outliers: z-scores against mean and deviation computed plainly, and what is forgotten.
#include "bdh/train/outliers.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

double wave(int step) { return 2 + 0.1 * std::sin(step); }

Outliers after(int steps) {
  Outliers outliers;
  for (int i = 0; i < steps; ++i) outliers.add(wave(i), 10 * wave(i));
  return outliers;
}

}  // namespace

TEST_CASE("a z-score is the distance from the mean in standard deviations, of loss or of norm") {
  double sum = 0, squares = 0;
  for (int i = 0; i < 30; ++i) sum += wave(i), squares += wave(i) * wave(i);
  const double mean = sum / 30, deviation = std::sqrt(squares / 30 - mean * mean);
  const Outliers outliers = after(30);
  CHECK(outliers.z_score(mean + 3 * deviation, 10 * mean) == doctest::Approx(3));
  CHECK(outliers.z_score(mean, 10 * (mean + 5 * deviation)) == doctest::Approx(5));
  CHECK(outliers.z_score(mean - 9 * deviation, 10 * (mean - 9 * deviation)) == doctest::Approx(-9));
}

TEST_CASE("the first steps are never outliers, and a constant loss has room for a thousandth") {
  CHECK(after(19).z_score(1e9, 1e9) == 0);
  CHECK(after(20).z_score(1e9, 1e9) > 1e6);
  Outliers constant;
  for (int i = 0; i < 100; ++i) constant.add(2, 2);
  CHECK(constant.z_score(2.002, 2) == doctest::Approx(1));
}

TEST_CASE("old steps weigh less and less") {
  Outliers outliers = after(1000);
  for (int i = 0; i < 1000; ++i) outliers.add(wave(i) + 8, 10 * wave(i));
  CHECK(outliers.z_score(10, 20) < 1);
}

TEST_CASE("after ten skipped steps in a row the statistics begin anew") {
  Outliers outliers = after(50);
  for (int i = 0; i < 9; ++i) outliers.skip();
  CHECK(outliers.z_score(1e9, 1) > 100);
  outliers.add(2, 20);
  for (int i = 0; i < 9; ++i) outliers.skip();
  CHECK(outliers.z_score(1e9, 1) > 100);
  outliers.skip();
  CHECK(outliers.z_score(1e9, 1) == 0);
}

TEST_CASE("statistics of outliers survive JSON to the bit, and damaged ones are refused") {
  Outliers outliers = after(37);
  outliers.skip();
  const Json json = Json::parse(outliers.to_json().dump(), "run");
  Outliers again = Outliers::from_json(json);
  CHECK(again.to_json() == outliers.to_json());
  CHECK(again.z_score(2.5, 21) == outliers.z_score(2.5, 21));
  CHECK(thrown_by([] {
          Outliers::from_json(Json::Object{{"steps", 3}});
        }).says("'skipped_in_a_row' is missing"));
  Json strange = json;
  strange.set("steps", -1);
  CHECK(thrown_by([&] { Outliers::from_json(strange); }).kind == ErrorKind::bad_file);
}
