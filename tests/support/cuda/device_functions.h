// CUDA's device functions, for the threads of an emulated block.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/support/cuda/block.h"

// NOLINTBEGIN(bugprone-reserved-identifier): the names are CUDA's.

// --- barriers

inline void __syncthreads() { emulation::wait_for_block(emulation::Collective::barrier, false); }
inline int __syncthreads_count(int predicate) {
  return emulation::wait_for_block(emulation::Collective::barrier_count, predicate != 0);
}
inline int __syncthreads_or(int predicate) {
  return emulation::wait_for_block(emulation::Collective::barrier_or, predicate != 0) > 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate) {
  return emulation::wait_for_block(emulation::Collective::barrier_and, predicate == 0) == 0 ? 1 : 0;
}
inline void __syncwarp(unsigned mask = ~0u) {
  emulation::exchange(emulation::Collective::warp_barrier, &mask, 0, mask);
}
inline void __threadfence() {}

// --- kernels that start before those before them have ended

inline void cudaTriggerProgrammaticLaunchCompletion() {}  // the emulator starts them as early as can be
inline void cudaGridDependencySynchronize() { emulation::wait_for_dependency(); }

// --- exchanges within a warp

namespace emulation {

/// What lane `from` gave; all bits set, if it takes no part.
template <class T>
T shuffle(unsigned mask, T value, unsigned from) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8));
  const Exchange& given = exchange(Collective::shuffle, &value, sizeof value, mask);
  T taken;
  if ((given.lanes >> from & 1) != 0) {
    std::memcpy(&taken, given.slots[from].bytes, sizeof taken);
  } else {
    std::memset(static_cast<void*>(&taken), 0xFF, sizeof taken);
  }
  return taken;
}

inline uint32_t ballot(unsigned mask, bool predicate) {
  const unsigned char given = predicate ? 1 : 0;
  const Exchange& all = exchange(Collective::vote, &given, 1, mask);
  return all.result<uint32_t>([&all](uint32_t& votes) {
    votes = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
      if ((all.lanes >> lane & 1) != 0 && all.slots[lane].bytes[0] != 0) votes |= 1u << lane;
    }
  });
}

/// The lanes' values, taken together in the order of the lanes.
template <class T, class Combine>
T reduce(unsigned mask, T value, Combine combine) {
  const Exchange& given = exchange(Collective::reduction, &value, sizeof value, mask);
  return given.result<T>([&](T& total) {
    for (unsigned lane = 0, taken = 0; lane < 32; ++lane) {
      if ((given.lanes >> lane & 1) == 0) continue;
      T other;
      std::memcpy(&other, given.slots[lane].bytes, sizeof other);
      total = taken++ == 0 ? other : combine(total, other);
    }
  });
}

}  // namespace emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  const unsigned within = static_cast<unsigned>(width) - 1;
  return emulation::shuffle(mask, value,
                            (emulation::lane_id() & ~within) | (static_cast<unsigned>(lane) & within));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const unsigned self = emulation::lane_id(), from = self ^ static_cast<unsigned>(lanes);
  return emulation::shuffle(mask, value, from > (self | (static_cast<unsigned>(width) - 1)) ? self : from);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned self = emulation::lane_id();
  return emulation::shuffle(mask, value,
                            (self & (static_cast<unsigned>(width) - 1)) < delta ? self : self - delta);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned self = emulation::lane_id(), within = static_cast<unsigned>(width) - 1;
  return emulation::shuffle(mask, value, delta > within - (self & within) ? self : self + delta);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return emulation::ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) {
  return emulation::ballot(mask, predicate != 0) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return emulation::ballot(mask, predicate == 0) == 0 ? 1 : 0;
}

template <class T>
T __reduce_add_sync(unsigned mask, T value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);
  return emulation::reduce(mask, value, [](T a, T b) {
    return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  });
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);
  return emulation::reduce(mask, value, [](T a, T b) { return a > b ? a : b; });
}

// --- memory: several threads of the host may run kernels on the same one

namespace emulation {

template <class T, class Change>
T change_atomically(T* at, Change change) {
  T old, wanted;
  __atomic_load(at, &old, __ATOMIC_RELAXED);
  do wanted = change(old);
  while (!__atomic_compare_exchange(at, &old, &wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  return old;
}

template <class T>
constexpr bool kAtomic =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;

}  // namespace emulation

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  static_assert(emulation::kAtomic<T> || std::is_same_v<T, float> || std::is_same_v<T, double>);
  return emulation::change_atomically(at, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  static_assert(emulation::kAtomic<T>);
  return emulation::change_atomically(at, [value](T old) { return old < value ? old : value; });
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  static_assert(emulation::kAtomic<T>);
  return emulation::change_atomically(at, [=](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* at, unsigned limit) {
  return emulation::change_atomically(at, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}

template <class T>
T __ldcg(const T* at) {
  return *at;
}
template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, std::type_identity_t<T> value) {
  *at = value;
}

// --- bits

inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline unsigned __brev(unsigned bits) {
  unsigned reversed = 0;
  for (unsigned i = 0; i < 32; ++i) reversed |= (bits >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  unsigned chosen = 0;
  for (unsigned i = 0; i < 4; ++i)
    chosen |= static_cast<unsigned>(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  return chosen;
}

// --- arithmetic

inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float value) { return std::sqrt(value); }
inline void __sincosf(float angle, float* sine, float* cosine) { *sine = sinf(angle), *cosine = cosf(angle); }
inline float __frsqrt_rn(float value) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(value)));
}

inline void sincospi(double value, double* sine, double* cosine) {
  const double turns = value - 2.0 * std::nearbyint(value / 2.0);  // exact: within [-1, 1]
  *sine = std::sin(turns * M_PI);
  *cosine = std::cos(turns * M_PI);
}
inline void sincospif(float value, float* sine, float* cosine) {
  double sin = 0, cos = 0;
  sincospi(static_cast<double>(value), &sin, &cos);
  *sine = static_cast<float>(sin);
  *cosine = static_cast<float>(cos);
}
#if !defined(__GLIBC_PREREQ) || !__GLIBC_PREREQ(2, 42)
inline float rsqrtf(float value) { return __frsqrt_rn(value); }
#endif

#define BDH_MIN_MAX(result, left, right)                                             \
  inline result min(left a, right b) {                                               \
    return static_cast<result>(a) < static_cast<result>(b) ? static_cast<result>(a)  \
                                                           : static_cast<result>(b); \
  }                                                                                  \
  inline result max(left a, right b) {                                               \
    return static_cast<result>(a) > static_cast<result>(b) ? static_cast<result>(a)  \
                                                           : static_cast<result>(b); \
  }
BDH_MIN_MAX(int, int, int)
BDH_MIN_MAX(unsigned, unsigned, unsigned)
BDH_MIN_MAX(unsigned, int, unsigned)
BDH_MIN_MAX(unsigned, unsigned, int)
BDH_MIN_MAX(long, long, long)
BDH_MIN_MAX(unsigned long, unsigned long, unsigned long)
BDH_MIN_MAX(unsigned long, long, unsigned long)
BDH_MIN_MAX(unsigned long, unsigned long, long)
BDH_MIN_MAX(long long, long long, long long)
BDH_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
BDH_MIN_MAX(unsigned long long, long long, unsigned long long)
BDH_MIN_MAX(unsigned long long, unsigned long long, long long)
#undef BDH_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline double min(float a, double b) { return std::fmin(static_cast<double>(a), b); }
inline double max(float a, double b) { return std::fmax(static_cast<double>(a), b); }
inline double min(double a, float b) { return std::fmin(a, static_cast<double>(b)); }
inline double max(double a, float b) { return std::fmax(a, static_cast<double>(b)); }

// NOLINTEND(bugprone-reserved-identifier)
