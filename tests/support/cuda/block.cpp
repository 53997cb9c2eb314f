// One block after the other on this thread of the host; its fibers and shared memory are kept for the next.
#include "tests/support/cuda/block.h"

#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/cuda/fiber.h"

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};

namespace emulation {
namespace {

struct PendingCopy {
  void* to;
  const void* from;
  size_t bytes;
  bool whole;
};

struct Thread {
  explicit Thread(unsigned number_) : number(number_), fiber(number_) {}

  unsigned number;
  Fiber fiber;
  uint3 index{};
  Collective waits_at = Collective::none;
  bool ended = false;
  std::vector<PendingCopy> copies = {};
  std::vector<size_t> groups = {};  // ends of the committed groups in `copies`
};

struct Warp {
  uint32_t present = 0, arrived = 0;  // lanes
  Collective kind = Collective::none;
  unsigned phase = 0;
  std::array<Exchange, 2> exchanges;  // a lane may give to the next before the others have read from the last
};

struct Barrier {
  unsigned arrived = 0, phase = 0;
  int count = 0;
  Collective kind = Collective::none;
  int counts[2] = {};
};

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::none:
      return "nothing";
    case Collective::barrier:
      return "__syncthreads";
    case Collective::barrier_count:
      return "__syncthreads_count";
    case Collective::barrier_or:
      return "__syncthreads_or";
    case Collective::barrier_and:
      return "__syncthreads_and";
    case Collective::warp_barrier:
      return "__syncwarp";
    case Collective::shuffle:
      return "__shfl_sync";
    case Collective::vote:
      return "__ballot_sync";
    case Collective::reduction:
      return "__reduce_sync";
    case Collective::matrix_product:
      return "mma";
    case Collective::matrix_load:
      return "ldmatrix";
    case Collective::dependency:
      return "cudaGridDependencySynchronize";
  }
  return "?";
}

class Machine {
 public:
  void run(const BlockLaunch& launch);
  bool runs_a_thread() const { return current_ != nullptr; }

  Thread& current() const {
    if (current_ == nullptr) throw std::logic_error("a device function was called outside a kernel");
    return *current_;
  }
  unsigned char* shared() const { return shared_.get(); }
  size_t shared_bytes() const { return shared_bytes_; }

  int wait_for_block(Collective kind, bool predicate);
  void wait_for_dependency();
  const Exchange& exchange(Collective kind, const void* value, size_t bytes, unsigned mask);

 private:
  struct Free {
    void operator()(unsigned char* memory) const { ::free(memory); }
  };

  static void enter();
  void run_thread(Thread& thread);
  void run_blocks();
  void run_block();
  void finish_dependency();
  void make_dependents_ready();
  void start_block();
  void reserve_shared(size_t bytes);
  void wait(Thread& thread, Collective kind);
  void end(Thread& thread);
  void release(Warp& warp, unsigned first, unsigned running);
  void release_barrier(unsigned running);
  void make_all_ready(unsigned running);
  Thread* next_thread();
  template <class T>
  void shuffle(std::vector<T>& items);
  uint64_t random();
  [[noreturn]] void mismatch(const Thread& thread, Collective kind, Collective others) const;
  std::string where() const;
  std::string deadlock() const;

  const BlockLaunch* launch_ = nullptr;
  bool dependency_done_ = true;
  uint64_t random_ = 0;
  unsigned size_ = 0, living_ = 0;  // threads of this block
  Context host_;
  Thread* current_ = nullptr;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> ready_;  // thread numbers; the last one runs next
  std::vector<unsigned> warp_order_;
  Barrier barrier_;
  std::exception_ptr thrown_;
  std::unique_ptr<unsigned char, Free> shared_;
  size_t shared_bytes_ = 0;
};

// One for each kernel that has started: more than one where kernels start early.
thread_local std::vector<std::unique_ptr<Machine>> machines;
thread_local size_t machines_used = 0;

Machine& machine() {
  if (machines_used == 0) throw std::logic_error("a device function was called outside a kernel");
  return *machines[machines_used - 1];
}

constexpr unsigned kNobody = ~0u;

uint64_t Machine::random() {  // xorshift64*
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return random_ * 2685821657736338717u >> 32;
}

template <class T>
void Machine::shuffle(std::vector<T>& items) {
  if (launch_->thread_order == 0) return;
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random() % i]);
}

void Machine::reserve_shared(size_t bytes) {
  if (shared_ && shared_bytes_ == bytes) return;
  void* memory = nullptr;
  if (::posix_memalign(&memory, 128, bytes) != 0) throw std::bad_alloc();
  shared_.reset(static_cast<unsigned char*>(memory));
  shared_bytes_ = bytes;
}

void Machine::run(const BlockLaunch& launch) {
  launch_ = &launch;
  dependency_done_ = !launch.before;
  blockDim = launch.block;
  gridDim = launch.grid;
  random_ = launch.thread_order * 0x9e3779b97f4a7c15u | 1;
  size_ = launch.block.x * launch.block.y * launch.block.z;
  while (threads_.size() < size_) threads_.push_back(std::make_unique<Thread>(threads_.size()));
  if (warps_.size() < (size_ + 31) / 32) warps_.resize((size_ + 31) / 32);
  reserve_shared(launch.shared_bytes);

  run_blocks();
  launch_ = nullptr;
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void Machine::run_blocks() {
  const dim3 grid = launch_->grid;
  const size_t blocks = size_t{grid.x} * grid.y * grid.z;
  std::vector<size_t> order(launch_->thread_order == 0 ? 0 : blocks);
  std::iota(order.begin(), order.end(), size_t{0});
  shuffle(order);

  for (size_t i = 0; i < blocks && !thrown_; ++i) {
    const size_t block = order.empty() ? i : order[i];
    blockIdx = {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                static_cast<unsigned>(block / grid.x / grid.y)};
    run_block();
    if (!thrown_) finish_dependency();
  }
}

// The work before the kernel, on other machines.
void Machine::finish_dependency() {
  if (std::exchange(dependency_done_, true)) return;
  const uint3 block = blockIdx;
  try {
    launch_->before();
  } catch (...) {
    thrown_ = std::current_exception();
  }
  blockIdx = block;
  blockDim = launch_->block;
  gridDim = launch_->grid;
}

void Machine::start_block() {
  std::memset(shared_.get(), 0xFF, shared_bytes_);
  living_ = size_;
  barrier_ = {};
  ready_.clear();
  uint3 index{};
  for (unsigned number = 0; number < size_; ++number) {
    Thread& thread = *threads_[number];
    thread.fiber.prepare(&Machine::enter);
    thread.index = index;
    thread.waits_at = Collective::none;
    thread.ended = false;
    thread.copies.clear();
    thread.groups.clear();
    if (++index.x < blockDim.x) continue;
    index.x = 0;
    if (++index.y < blockDim.y) continue;
    index.y = 0;
    ++index.z;
  }
  make_all_ready(kNobody);
  for (unsigned first = 0; first < size_; first += 32) {
    Warp& warp = warps_[first / 32];
    warp.present = size_ - first >= 32 ? ~0u : (1u << (size_ - first)) - 1;
    warp.arrived = 0;
    warp.phase = 0;
  }
}

void Machine::run_block() {
  start_block();
  while ((current_ = next_thread()) != nullptr) {
    threadIdx = current_->index;
    switch_context(host_, current_->fiber.context());
    current_ = nullptr;
    if (thrown_ || dependency_done_) break;
    finish_dependency();
    if (thrown_) break;
    make_dependents_ready();
  }
  if (living_ > 0 && !thrown_) thrown_ = std::make_exception_ptr(std::logic_error(deadlock()));
}

void Machine::enter() {
  entered_fiber();
  machine().run_thread(*machine().current_);
}

void Machine::run_thread(Thread& thread) {
  try {
    launch_->body();
    end(thread);
  } catch (...) {
    thrown_ = std::current_exception();
  }
  Thread* const next = thrown_ ? nullptr : next_thread();
  current_ = next;
  if (next == nullptr) leave_for(host_);
  threadIdx = next->index;
  leave_for(next->fiber.context());
}

void Machine::end(Thread& thread) {
  thread.ended = true;
  --living_;
  Warp& warp = warps_[thread.number / 32];
  warp.present &= ~(1u << thread.number % 32);
  if (warp.arrived != 0 && warp.arrived == warp.present) release(warp, thread.number & ~31u, kNobody);
  if (barrier_.arrived != 0 && barrier_.arrived == living_) release_barrier(kNobody);
}

/// When shuffled, mostly a lane of the warp that has just got on, so that warps run far ahead of one another.
Thread* Machine::next_thread() {
  if (ready_.empty()) return nullptr;
  if (launch_->thread_order != 0) {
    const size_t among = random() % 16 == 0 ? ready_.size() : std::min<size_t>(ready_.size(), 32);
    std::swap(ready_[ready_.size() - 1 - random() % among], ready_.back());
  }
  Thread* const next = threads_[ready_.back()].get();
  ready_.pop_back();
  return next;
}

void Machine::make_all_ready(unsigned running) {
  const unsigned warps = (size_ + 31) / 32;
  warp_order_.resize(warps);
  std::iota(warp_order_.rbegin(), warp_order_.rend(), 0u);
  shuffle(warp_order_);
  for (const unsigned warp : warp_order_) {
    for (unsigned number = std::min(size_, 32 * warp + 32); number-- > 32 * warp;) {
      if (!threads_[number]->ended && number != running) ready_.push_back(number);
    }
  }
}

void Machine::wait(Thread& thread, Collective kind) {
  thread.waits_at = kind;
  Thread* const next = next_thread();
  current_ = next;
  if (next != nullptr) threadIdx = next->index;
  switch_context(thread.fiber.context(), next != nullptr ? next->fiber.context() : host_);
  thread.waits_at = Collective::none;
}

void Machine::wait_for_dependency() {
  Thread& thread = current();
  if (!dependency_done_) wait(thread, Collective::dependency);
}

void Machine::make_dependents_ready() {
  for (unsigned number = size_; number-- > 0;) {
    const Thread& thread = *threads_[number];
    if (!thread.ended && thread.waits_at == Collective::dependency) ready_.push_back(number);
  }
}

void Machine::release(Warp& warp, unsigned first, unsigned running) {
  warp.exchanges[warp.phase].lanes = warp.arrived;
  warp.exchanges[warp.phase].forget_result();
  for (unsigned lane = 32; lane-- > 0;) {
    if ((warp.arrived >> lane & 1) != 0 && first + lane != running) ready_.push_back(first + lane);
  }
  warp.arrived = 0;
  warp.phase ^= 1;
}

const Exchange& Machine::exchange(Collective kind, const void* value, size_t bytes, unsigned mask) {
  Thread& thread = current();
  Warp& warp = warps_[thread.number / 32];
  const unsigned lane = thread.number % 32;
  if ((warp.present & ~mask) != 0) {
    throw std::logic_error(where() + std::string(name_of(kind)) +
                           " with a mask that leaves out lanes: not emulated");
  }
  if (warp.arrived == 0) warp.kind = kind;
  if (warp.kind != kind) mismatch(thread, kind, warp.kind);
  Exchange& given = warp.exchanges[warp.phase];
  std::memcpy(given.slots[lane].bytes, value, bytes);
  warp.arrived |= 1u << lane;
  if (warp.arrived == warp.present) {
    release(warp, thread.number & ~31u, thread.number);
  } else {
    wait(thread, kind);
  }
  return given;
}

void Machine::release_barrier(unsigned running) {
  make_all_ready(running);
  barrier_.counts[barrier_.phase] = barrier_.count;
  barrier_.count = 0;
  barrier_.arrived = 0;
  barrier_.phase ^= 1;
}

int Machine::wait_for_block(Collective kind, bool predicate) {
  Thread& thread = current();
  if (barrier_.arrived == 0) barrier_.kind = kind;
  if (barrier_.kind != kind) mismatch(thread, kind, barrier_.kind);
  const unsigned phase = barrier_.phase;
  ++barrier_.arrived;
  barrier_.count += predicate ? 1 : 0;
  if (barrier_.arrived == living_) {
    release_barrier(thread.number);
  } else {
    wait(thread, kind);
  }
  return barrier_.counts[phase];
}

std::string Machine::where() const {
  std::ostringstream out;
  out << (launch_->kernel != nullptr ? launch_->kernel : "kernel") << ", block (" << blockIdx.x << ", "
      << blockIdx.y << ", " << blockIdx.z << "): ";
  return out.str();
}

void Machine::mismatch(const Thread& thread, Collective kind, Collective others) const {
  throw std::logic_error(where() + "thread " + std::to_string(thread.number) + " is at " + name_of(kind) +
                         " while others wait at " + name_of(others));
}

std::string Machine::deadlock() const {
  std::ostringstream out;
  out << where() << "threads wait for each other in vain:";
  for (int kind = 1; kind <= static_cast<int>(Collective::dependency); ++kind) {
    const auto waits = [kind, this](unsigned number) {
      return !threads_[number]->ended && threads_[number]->waits_at == static_cast<Collective>(kind);
    };
    unsigned count = 0, first = size_;
    for (unsigned number = 0; number < size_; ++number) {
      if (!waits(number)) continue;
      first = std::min(first, number);
      ++count;
    }
    if (count > 0)
      out << " " << count << " at " << name_of(static_cast<Collective>(kind)) << " (first: " << first << "),";
  }
  out << " " << size_ - living_ << " have ended";
  return out.str();
}

}  // namespace

void run_grid(const BlockLaunch& launch) {
  if (machines_used > 0 && machine().runs_a_thread()) throw std::logic_error("a kernel launched a kernel");
  if (machines_used == machines.size()) machines.push_back(std::make_unique<Machine>());
  struct Use {
    Use() { ++machines_used; }
    ~Use() { --machines_used; }
  } use;
  machine().run(launch);
}

unsigned char* shared_memory() {
  machine().current();
  return machine().shared();
}

void require_shared(const void* from, size_t bytes, const char* what) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(shared_memory());
  const uintptr_t at = reinterpret_cast<uintptr_t>(from);
  const size_t alignment = std::min<size_t>(bytes, 16);
  if (at % alignment != 0)
    throw std::logic_error(std::string(what) + ": a shared address is not a multiple of " +
                           std::to_string(alignment));
  if (at < begin || at + bytes > begin + machine().shared_bytes()) {
    throw std::logic_error(std::string(what) + ": an address outside the block's shared memory");
  }
}

int wait_for_block(Collective kind, bool predicate) { return machine().wait_for_block(kind, predicate); }

void wait_for_dependency() { machine().wait_for_dependency(); }

const Exchange& exchange(Collective kind, const void* value, size_t bytes, unsigned mask) {
  return machine().exchange(kind, value, bytes, mask);
}

unsigned lane_id() { return machine().current().number % 32; }

void copy_later(void* shared, const void* global, size_t bytes, bool whole) {
  require_shared(shared, bytes, "cp.async");
  if (reinterpret_cast<uintptr_t>(global) % bytes != 0)
    throw std::logic_error("cp.async: a global address is not a multiple of " + std::to_string(bytes));
  std::memset(shared, 0xFF, bytes);
  machine().current().copies.push_back({shared, global, bytes, whole});
}

void commit_copies() {
  Thread& thread = machine().current();
  thread.groups.push_back(thread.copies.size());
}

void wait_for_copies(size_t groups) {
  Thread& thread = machine().current();
  if (thread.groups.size() <= groups) return;
  const size_t arriving = thread.groups.size() - groups;
  const size_t end = thread.groups[arriving - 1];
  for (size_t i = 0; i < end; ++i) {
    const PendingCopy& copy = thread.copies[i];
    if (copy.whole) {
      std::memcpy(copy.to, copy.from, copy.bytes);
    } else {
      std::memset(copy.to, 0, copy.bytes);
    }
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(end));
  thread.groups.erase(thread.groups.begin(), thread.groups.begin() + static_cast<std::ptrdiff_t>(arriving));
  for (size_t& group : thread.groups) group -= end;
}

}  // namespace emulation
