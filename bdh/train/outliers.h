// Outliers: which steps are so unlike those before that they had better be skipped.
#pragma once

#include <cstdint>

#include "bdh/base/json.h"

namespace bdh {

/// Their key in RunState::statistics.
inline constexpr const char* kOutliers = "outliers";

/// Mean and variance of the recent steps' losses and gradient norms: of all steps while there are few, then
/// weighted by exp(-age / 32 steps), because both fall as a model learns.
class Outliers {
 public:
  /// How many standard deviations loss or norm, whichever is further, lies above the mean; 0 in the first
  /// 20 steps. A deviation counts as at least a thousandth of the mean.
  double z_score(double loss, double norm) const;
  /// A step that was not skipped.
  void add(double loss, double norm);
  /// One that was. When ten were skipped in a row, what was usual before is so no more, and is forgotten.
  void skip();

  Json to_json() const;
  /// Throws Error(bad_file).
  static Outliers from_json(const Json& json);

 private:
  struct Moments {
    double mean = 0, variance = 0;
    double z_score(double value) const;
    void add(double value, double weight);
    bool operator==(const Moments&) const = default;
  };

  int64_t steps_ = 0;
  int64_t skipped_in_a_row_ = 0;
  Moments loss_, norm_;
};

}  // namespace bdh
