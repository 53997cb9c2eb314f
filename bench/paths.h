// The ways a session is used: decoding, prefilling, batches, the three forms. Knows the model's formulas and
// counts their work.
#pragma once

#include <memory>
#include <vector>

#include "bench/case.h"
#include "bench/machine.h"
#include "bench/subject.h"

namespace bdh::bench {

struct PathOptions {
  bool quick = false;  // the main ones alone
  bool full = false;   // decoding after 100,000 tokens too
};

/// trained: null when there is no such model.
std::vector<Case> path_cases(const Machine& machine, const std::shared_ptr<const Source>& random,
                             const std::shared_ptr<const Source>& trained, const PathOptions& options);

}  // namespace bdh::bench
