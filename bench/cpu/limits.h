// What the machine can do at best: reading and writing each level of memory, and multiplying matrices with
// OpenBLAS.
#pragma once

#include <string>
#include <vector>

#include "bench/cpu/machine.h"
#include "bench/cpu/runner.h"

namespace bdh::bench {

std::vector<CpuCase> limit_cases(const Machine& machine);

/// The limits that were measured.
class Limits {
 public:
  Limits(Machine machine, const std::vector<Result>& results);

  /// The longest of reading and of writing, at the level its working set fits in, which may go on at the same
  /// time, and flops over the fastest sgemm; each in its best repetition and, as Bound::usual, by its median.
  Bound bound(const Work& work, int threads) const;
  /// With all cores: reading each level of memory, and sgemm.
  std::vector<Roof> roofs() const;

 private:
  using Time = double (Result::*)() const;
  double rate(const std::string& name, const std::string& shape, int threads, Time time) const;
  Bound longest(const Work& work, int threads, Time time) const;
  Machine machine_;
  const std::vector<Result>& results_;
};

}  // namespace bdh::bench
