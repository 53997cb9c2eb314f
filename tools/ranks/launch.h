// Launch: whether this process is one of several that mpirun or srun started, and what follows from that.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bdh/train/ranks.h"

namespace bdh::tools {

class Launch {
 public:
  /// One rank; or, where several processes were started, theirs, by the bdh_mpi.so that stands beside bdh.
  /// From then on only the first says anything. Throws Error(unsupported) where that module is missing,
  /// Error(io) where MPI does not find as many processes as were started.
  Launch();
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  Ranks& ranks();
  /// Rank 0, which writes and reports.
  bool first() { return ranks().rank() == 0; }

  /// CPU threads of this rank where 0 is asked for: its share of the machine's cores.
  int threads(int asked) const;
  /// Its device where "cuda", or "auto" on a machine with GPUs, is asked for: they are dealt out in turn.
  std::string device(const std::string& asked) const;

  /// Runs body(), in which the ranks fail together or not at all, and ends the run. A rank that ends in the
  /// middle ends all the others at once, with exit code 1: rank 0 then says so and adds remedy(), which is
  /// called beside body(). The ranks of a failed run end after the first, which says why.
  void run(const std::function<void()>& body, const std::function<std::string()>& remedy);

 private:
  struct Several;
  std::unique_ptr<Ranks> single_;
  std::unique_ptr<Several> several_;
};

}  // namespace bdh::tools
