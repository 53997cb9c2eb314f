// What the measurements say: tables to read, JSON to keep.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/json.h"
#include "bench/case.h"

namespace bdh::bench {

/// A measurement beside its limit and its peers.
struct Row {
  Result result;
  Bound bound;
  double share = 0;                                   // bound / median; 0: unknown
  double usual_share = 0;                             // Bound::usual / median
  std::vector<std::pair<std::string, double>> peers;  // name, and how many times as long it takes
};

struct Report {
  std::string device;                // "NVIDIA H100 80GB HBM3", "AMD EPYC"
  std::vector<std::string> heading;  // lines: the device, its driver or libraries
  std::string date;                  // "2025-03-01 12:00 UTC"
  std::string peer;                  // "torch 2.4.0", or why there is none
  Json::Object machine;              // what the JSON has of it
  std::vector<std::string> notes;    // a sentence each
  std::vector<Roof> roofs;
  std::vector<Row> rows;  // every result, limits and peers too
};

/// "2025-03-01 12:00 UTC" for now and "%Y-%m-%d %H:%M UTC".
std::string now(const char* pattern);

/// Rows in the results' order. bound: of a kernel's or path's result. Peers are compared with paths of the
/// same dtype, by the time of a token.
std::vector<Row> rows_of(const std::vector<Result>& results,
                         const std::function<Bound(const Result&)>& bound);

/// No work takes less time than its limit: a share above this is an error of the bench, in the limit or in
/// the work that it counts. Work::zeros do not count for this.
constexpr double kMostShare = 1.05;

/// A line for each case with such a share: its id, the share, the limit.
std::vector<std::string> impossible_shares(const Report& report);
/// Throws Error(bad_file) that names the first.
void require_possible(const Report& report);

std::string table_of(const Report& report);
Json json_of(const Report& report);

/// "1.23 ms"
std::string format_seconds(double seconds);
/// "61 %"
std::string format_share(double share);
/// Three digits.
std::string format_number(double value);

}  // namespace bdh::bench
