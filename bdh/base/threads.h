// A pool of threads for data-parallel loops. Knows nothing of what runs in them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace bdh {

/// Runs loops on a fixed number of threads. No thread exists before the first loop that can use one.
/// Which thread runs which index is not determined, so a loop body must give the same result whichever does.
class ThreadPool {
 public:
  /// threads <= 0: as many as this process may use cores.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  /// Calls body(index, worker) for every index in [0, count) and returns when all have returned;
  /// worker in [0, threads()) is the same for all calls on one thread. The body must not throw or call run().
  /// One loop at a time: the caller serialises.
  void run(int64_t count, const std::function<void(int64_t index, int worker)>& body);

 private:
  struct Workers;
  int threads_;
  std::unique_ptr<Workers> workers_;
};

/// Cores this process may run on.
int available_cores();

}  // namespace bdh
