// The thread pool: workers wait for a loop by spinning for a moment, then by sleeping.
// Knows nothing of what runs in the loops.
#include "bdh/base/threads.h"

#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

#include "bdh/base/error.h"

namespace bdh {

namespace {

// About 20 microseconds: longer than the gap between two phases of decoding a token, shorter than anyone
// notices.
constexpr int kSpins = 2000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Returns once `value` differs from `old`.
void wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_briefly();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::Workers {
  Loop loop{};
  alignas(64) std::atomic<int64_t> next{0};         // the next index nobody has taken
  alignas(64) std::atomic<uint32_t> generation{0};  // counts loops; workers wait for it to change
  alignas(64) std::atomic<uint32_t> finished{0};    // counts workers that have left the current loop
  std::atomic<bool> stopping{false};
  std::vector<std::thread> threads;

  void work(int worker) {
    const Loop current = loop;
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < current.count;) {
      current.call(current.body, i, worker);
    }
  }

  void serve(int worker) {
    for (uint32_t seen = 0;;) {
      wait_while_equal(generation, seen);
      if (stopping.load(std::memory_order_acquire)) return;
      ++seen;
      work(worker);
      finished.fetch_add(1, std::memory_order_release);
      finished.notify_one();
    }
  }

  explicit Workers(int count) {
    threads.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) threads.emplace_back([this, i] { serve(i + 1); });
  }

  ~Workers() {
    stopping.store(true, std::memory_order_release);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void run(const Loop& new_loop) {
    loop = new_loop;
    next.store(0, std::memory_order_relaxed);
    finished.store(0, std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    work(0);
    const auto all = static_cast<uint32_t>(threads.size());
    for (uint32_t done; (done = finished.load(std::memory_order_acquire)) != all;)
      wait_while_equal(finished, done);
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads > 0 ? threads : available_cores()) {
  constexpr int kMost = 1024;
  if (threads_ > kMost) fail(ErrorKind::invalid_argument, "threads: ", threads_, " is more than ", kMost);
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::run_loop(const Loop& loop) {
  if (threads_ == 1 || loop.count <= 1) {
    for (int64_t i = 0; i < loop.count; ++i) loop.call(loop.body, i, 0);
    return;
  }
  if (!workers_) workers_ = std::make_unique<Workers>(threads_ - 1);
  workers_->run(loop);
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 0 ? static_cast<int>(cores) : 1;
}

}  // namespace bdh
