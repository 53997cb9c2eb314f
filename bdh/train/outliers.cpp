// Running moments of loss and norm.
#include "bdh/train/outliers.h"

#include <algorithm>
#include <cmath>

#include "bdh/base/error.h"

namespace bdh {

namespace {

constexpr int64_t kFewSteps = 20;
constexpr int64_t kRecentSteps = 32;
constexpr int64_t kMostInARow = 10;
constexpr double kLeastDeviation = 1e-3;  // of the mean

const Json& member(const Json& json, std::string_view key) {
  const Json* found = json.find(key);
  if (!found) fail(ErrorKind::bad_file, "statistics of outliers: '", key, "' is missing");
  return *found;
}

}  // namespace

double Outliers::Moments::z_score(double value) const {
  const double deviation = std::max(std::sqrt(variance), kLeastDeviation * std::abs(mean));
  return deviation > 0 ? (value - mean) / deviation : 0;
}

void Outliers::Moments::add(double value, double weight) {
  const double distance = value - mean;
  mean += weight * distance;
  variance = (1 - weight) * (variance + weight * distance * distance);
}

double Outliers::z_score(double loss, double norm) const {
  if (steps_ < kFewSteps) return 0;
  return std::max(loss_.z_score(loss), norm_.z_score(norm));
}

void Outliers::add(double loss, double norm) {
  skipped_in_a_row_ = 0;
  steps_ = std::min(steps_ + 1, kRecentSteps);
  const double weight = 1.0 / static_cast<double>(steps_);
  loss_.add(loss, weight);
  norm_.add(norm, weight);
}

void Outliers::skip() {
  if (++skipped_in_a_row_ == kMostInARow) *this = {};
}

Json Outliers::to_json() const {
  return Json::Object{{"steps", steps_},         {"skipped_in_a_row", skipped_in_a_row_},
                      {"loss_mean", loss_.mean}, {"loss_variance", loss_.variance},
                      {"norm_mean", norm_.mean}, {"norm_variance", norm_.variance}};
}

Outliers Outliers::from_json(const Json& json) {
  Outliers outliers;
  outliers.steps_ = member(json, "steps").as_integer();
  outliers.skipped_in_a_row_ = member(json, "skipped_in_a_row").as_integer();
  outliers.loss_ = {member(json, "loss_mean").as_number(), member(json, "loss_variance").as_number()};
  outliers.norm_ = {member(json, "norm_mean").as_number(), member(json, "norm_variance").as_number()};
  if (outliers.steps_ < 0 || outliers.steps_ > kRecentSteps)
    fail(ErrorKind::bad_file, "statistics of outliers: steps is ", outliers.steps_);
  return outliers;
}

}  // namespace bdh
