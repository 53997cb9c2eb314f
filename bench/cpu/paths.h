// The ways a session is used on a CPU: decoding, prefilling, batches, the three forms; and the peer's cases.
#pragma once

#include <memory>
#include <vector>

#include "bench/cpu/machine.h"
#include "bench/cpu/runner.h"
#include "bench/peers.h"
#include "bench/source.h"

namespace bdh::bench {

struct PathOptions {
  bool quick = false;  // the main ones alone
  bool full = false;   // decoding after 100,000 tokens too
  int batch = 0;       // sequences decoded together; 0: 4 and 16
};

/// random, trained: null when not wanted.
std::vector<CpuCase> path_cases(const Machine& machine, const std::shared_ptr<const Source>& random,
                                const std::shared_ptr<const Source>& trained, const PathOptions& options);

/// The model that the peer has is called `model`.
std::vector<CpuCase> peer_cases(const std::shared_ptr<Peer>& peer, const std::string& model, int threads);

}  // namespace bdh::bench
