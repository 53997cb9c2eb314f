// Ranks that are threads of this process, with queues between them.
#pragma once

#include <functional>

#include "bdh/train/ranks.h"

namespace bdh::test {

/// Calls body on so many threads, each with its rank, and returns when all have ended; rank 0 is this thread.
/// Throws what rank 0's threw, else what another's did. Whoever waits for a rank that has ended gets
/// Error(io), as with processes.
void run_ranks(int count, const std::function<void(Ranks&)>& body);

}  // namespace bdh::test
