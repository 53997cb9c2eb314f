// The threads of one block, each a fiber that runs until it waits for others: barriers, exchanges within a
// warp, asynchronous copies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>

#include "tests/support/cuda/vectors.h"

extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
constexpr int warpSize = 32;

namespace emulation {

/// What threads wait at together.
enum class Collective : uint8_t {
  none,
  barrier,
  barrier_count,
  barrier_or,
  barrier_and,
  warp_barrier,
  shuffle,
  vote,
  reduction,
  matrix_product,
  matrix_load,
  dependency,
};

/// What the lanes of a warp gave to one collective.
struct Exchange {
  struct alignas(16) Slot {
    unsigned char bytes[32];
  };
  uint32_t lanes = 0;  // those that took part
  std::array<Slot, 32> slots;

  /// What the lanes make of it together: computed by the first that asks, with make(result).
  template <class Result, class Make>
  const Result& result(Make make) const {
    static_assert(std::is_trivially_copyable_v<Result> && sizeof(Result) <= sizeof made_);
    Result* const at = reinterpret_cast<Result*>(made_);
    if (!is_made_) make(*at);
    is_made_ = true;
    return *at;
  }
  void forget_result() { is_made_ = false; }

 private:
  mutable bool is_made_ = false;
  alignas(16) mutable unsigned char made_[512];
};

/// Runs every thread of the block to its end. Throws std::logic_error, which says where the threads stand,
/// when they wait for each other in vain; what a thread throws ends the block and passes through.
struct BlockLaunch {
  const char* kernel;  // for messages; may be null
  dim3 grid, block;
  size_t shared_bytes;
  uint64_t thread_order;  // 0: in order; else shuffled from it
  const std::function<void()>& body;
  /// The work of the stream that is not done yet, where the kernel may start before it: the first block runs
  /// without it as far as each thread's wait_for_dependency(), and what does not wait has to do without it.
  const std::function<void()>& before;
};
/// Runs all blocks, one after the other.
void run_grid(const BlockLaunch& launch);

/// The functions below are for threads of a running block; elsewhere they throw std::logic_error.

/// The block's dynamic shared memory, of the size that the launch gave, 128-byte aligned.
unsigned char* shared_memory();
/// Throws std::logic_error unless so many bytes from there lie in the block's shared memory, aligned to as
/// many, or to 16.
void require_shared(const void* from, size_t bytes, const char* what);

/// Waits for all threads that have not ended; returns for how many of them the predicate holds.
int wait_for_block(Collective kind, bool predicate);
/// Waits until the work before the kernel is done (griddepcontrol.wait).
void wait_for_dependency();
/// Waits for all lanes that have not ended; the answer is valid until the lane's next collective.
const Exchange& exchange(Collective kind, const void* value, size_t bytes, unsigned mask = ~0u);
unsigned lane_id();

/// 4, 8 or 16 bytes that arrive when the group that they are committed to is waited for; until then 0xFF
/// stands there. Zeros if not `whole`.
void copy_later(void* shared, const void* global, size_t bytes, bool whole);
void commit_copies();
/// Waits for all groups but the newest `groups`.
void wait_for_copies(size_t groups);

}  // namespace emulation
