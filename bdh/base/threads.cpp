// The thread pool: workers wait for a loop by spinning for a moment, then by sleeping. Each has a slice of
// the indices, and helps with the others' when its own is done. So threads read memory far from one another,
// and the same thread comes back to what it had in its cache.
#include "bdh/base/threads.h"

#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

#include "bdh/base/error.h"

namespace bdh {

namespace {

// Meant to outlast the gap between two phases of decoding a token, and to be over before anyone notices.
constexpr int kSpins = 2000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Waits for other threads to finish what they are at: they may need this core for it.
void wait_politely(int round) {
  if (round < kSpins) return pause_briefly();
  std::this_thread::yield();
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
  static constexpr int64_t kClosed = -1;

  struct alignas(64) Slice {
    std::atomic<int64_t> next{0};  // the first index nobody has taken
    int64_t end = 0;
  };

  Loop loop{};
  std::vector<Slice> slices;                         // one for each thread
  alignas(64) std::atomic<uint32_t> generation{0};   // counts loops; workers wait for it to change
  alignas(64) std::atomic<int64_t> inside{kClosed};  // workers in the current loop; closed when it is over
  std::atomic<bool> stopping{false};
  std::vector<std::thread> threads;

  void divide(int64_t count) {
    const auto share = static_cast<int64_t>(slices.size());
    for (int64_t i = 0; i < share; ++i) {
      slices[i].next.store(i * count / share, std::memory_order_relaxed);
      slices[i].end = (i + 1) * count / share;
    }
  }

  void work_on(Slice& slice, int worker) {
    if (slice.next.load(std::memory_order_relaxed) >= slice.end) return;
    for (int64_t i; (i = slice.next.fetch_add(1, std::memory_order_relaxed)) < slice.end;)
      loop.call(loop.body, i, worker);
  }

  void work(int worker) {
    for (size_t i = 0; i < slices.size(); ++i) work_on(slices[(worker + i) % slices.size()], worker);
  }

  // A worker that comes too late finds the loop closed, so nobody has to wait for one that sleeps.
  bool enter() {
    for (int64_t count = inside.load(std::memory_order_relaxed); count != kClosed;) {
      if (inside.compare_exchange_weak(count, count + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }

  void close() {
    int64_t none = 0;
    for (int round = 0; !inside.compare_exchange_weak(none, kClosed, std::memory_order_acquire);
         ++round, none = 0) {
      wait_politely(round);
    }
  }

  void serve(int worker) {
    for (uint32_t seen = 0;;) {
      wait_while_equal(generation, seen);
      seen = generation.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      if (!enter()) continue;
      work(worker);
      inside.fetch_sub(1, std::memory_order_release);
    }
  }

  explicit Workers(int count) : slices(static_cast<size_t>(count) + 1) {
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
    divide(new_loop.count);
    inside.store(0, std::memory_order_release);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    work(0);
    close();
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
