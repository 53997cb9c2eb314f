// A pool of threads for data-parallel loops.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

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

  /// Calls body(int64_t index, int worker) for every index in [0, count) and returns when all have returned;
  /// worker, in [0, threads()), is the same for all calls on one thread. The body must not throw or call
  /// run(). One loop at a time: the caller serialises.
  template <class Body>
  void run(int64_t count, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_loop({count, &body, [](const void* b, int64_t index, int worker) {
                (*static_cast<Plain*>(const_cast<void*>(b)))(index, worker);
              }});
  }

 private:
  struct Loop {
    int64_t count;
    const void* body;
    void (*call)(const void* body, int64_t index, int worker);
  };
  struct Workers;
  void run_loop(const Loop& loop);

  int threads_;
  std::unique_ptr<Workers> workers_;
};

/// Cores this process may run on.
int available_cores();

}  // namespace bdh
