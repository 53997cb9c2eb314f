// Names of cases and the statistics of their samples.
#include "bench/case.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bdh/base/error.h"

namespace bdh::bench {

std::string Case::id() const {
  std::string id = name;
  for (const std::string* part : {&shape, &dtype, &variant}) {
    if (!part->empty()) id += "/" + *part;
  }
  if (threads > 0) id += concat("/", threads, threads == 1 ? " thread" : " threads");
  std::replace(id.begin(), id.end(), ' ', '_');
  return id;
}

double Result::median() const {
  std::vector<double> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  if (sorted.empty()) return 0;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double Result::best() const {
  return samples.empty() ? 0 : *std::min_element(samples.begin(), samples.end());
}

double Result::spread() const {
  if (samples.size() < 2) return 0;
  const auto count = static_cast<double>(samples.size());
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / count;
  double squares = 0;
  for (const double sample : samples) squares += (sample - mean) * (sample - mean);
  return mean > 0 ? std::sqrt(squares / (count - 1)) / mean : 0;
}

}  // namespace bdh::bench
