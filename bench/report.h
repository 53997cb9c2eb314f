// What the measurements say: tables to read, JSON to keep. Knows cases and limits; runs nothing.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bdh/base/json.h"
#include "bench/case.h"
#include "bench/limits.h"
#include "bench/machine.h"

namespace bdh::bench {

/// A measurement beside its limit and its peers.
struct Row {
  const Result* result;
  Bound bound;
  double share = 0;                                   // bound / median; 0: unknown
  std::vector<std::pair<std::string, double>> peers;  // name, and how many times slower it is
};

struct Report {
  Machine machine;
  std::string date;  // "2025-03-01 12:00 UTC"
  std::string openblas;
  std::string peer;                // "torch 2.4.0", or why there is none
  std::vector<std::string> notes;  // a sentence each
  std::vector<Row> rows;           // every result, limits and peers too
};

std::vector<Row> rows_of(const std::vector<Result>& results, const Limits& limits);

std::string table_of(const Report& report);
Json json_of(const Report& report);

/// "1.23 ms"
std::string format_seconds(double seconds);
/// "12.3 GB/s" or "123 GFLOP/s", whichever limits the row.
std::string format_rate(const Row& row);
/// "61 %"
std::string format_share(double share);
/// "8.1x PyTorch forward, ..."
std::string format_peers(const Row& row);

}  // namespace bdh::bench
