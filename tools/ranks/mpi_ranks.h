// What bdh_mpi.so gives to `bdh train`: the ranks of an MPI run, and where each of them is.
#pragma once

#include <sys/types.h>

#include <vector>

#include "bdh/train/ranks.h"

namespace bdh::tools {

/// A rank as the operating system knows it.
struct RankProcess {
  int rank = 0;
  pid_t process = 0;  // 0: of another process namespace
};

class MpiRanks : public Ranks {
 public:
  /// The ranks of this machine in their order, this one among them.
  virtual const std::vector<RankProcess>& neighbours() const = 0;
  /// This rank's share of the machine's cores, at least 1.
  virtual int cores() const = 0;
  /// A barrier, but for the last one where some rank has failed: waits at most so long. False where not all
  /// came; no call may follow then.
  virtual bool all_come(int milliseconds) = 0;
  /// The last call where none has failed, after a barrier.
  virtual void finish() = 0;
};

/// The entry's name and type. It starts MPI, once in a process; what it returns is never deleted. Throws
/// Error(io). Where MPI cannot start at all it says why and ends the process itself.
inline constexpr const char* kMpiEntry = "bdh_mpi_ranks";
using MpiEntry = MpiRanks*();

}  // namespace bdh::tools
