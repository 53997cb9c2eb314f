// Metrics: what a server counts, as Prometheus reads it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace bdh::tools {

/// Seconds, counted in buckets. Any thread may add.
class Histogram {
 public:
  void add(double seconds);
  /// As Prometheus' text format has it, with that name.
  std::string text(std::string_view name, std::string_view help) const;

 private:
  static constexpr std::array kBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                      0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0, 300.0};
  mutable std::mutex mutex_;
  std::array<uint64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

class Metrics {
 public:
  std::atomic<uint64_t> prompt_tokens = 0, text_tokens = 0, turned_away = 0;
  Histogram request, first_token, between_tokens;  // seconds

  void count(std::string_view route, int status);
  /// All of the above; and requests by route and status.
  std::string text() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;
};

/// A family of one number, or the head of one whose samples follow. kind: counter, gauge.
std::string metric_head(std::string_view name, std::string_view kind, std::string_view help);
std::string metric(std::string_view name, std::string_view kind, std::string_view help, double value);
/// A sample with labels: `model="a"`. Values of labels are escaped by label().
std::string sample(std::string_view name, std::string_view labels, double value);
std::string label(std::string_view name, std::string_view value);

}  // namespace bdh::tools
