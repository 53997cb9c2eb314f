// RankWatch: notices when a rank of this machine ends before the run does.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tools/ranks/mpi_ranks.h"

namespace bdh::tools {

/// Of processes that are there when it is made. One that it cannot watch (of another process namespace, or
/// before Linux 5.3) never ends for it: that is left to the launcher.
class RankWatch {
 public:
  explicit RankWatch(const std::vector<RankProcess>& processes);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  /// Once one of them ends, calls ended(rank) in a thread of its own, for the first that it sees; for the
  /// last in order, where it sees several.
  void start(std::function<void(int rank)> ended);
  /// ended() does not run any more.
  void stop();
  /// Waits until the rank has ended, at most so long. False where it has not, or is not known.
  bool wait_for_end(int rank, int milliseconds) const;

 private:
  struct Watched;
  std::unique_ptr<Watched> watched_;
};

}  // namespace bdh::tools
