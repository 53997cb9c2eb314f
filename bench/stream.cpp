// Loops over memory for each width of vectors, chosen at run time.
#include "bench/stream.h"

namespace bdh::bench {

namespace {

// A vector wider than the processor's own would go through the stack.
template <int kBytes>
using Words __attribute__((vector_size(kBytes), may_alias)) = uint64_t;

constexpr int kAtOnce = 8;  // vectors: more than an addition's latency, and fewer than there are registers

// The loop over rounds stays one: nothing of a round may be kept for the next.
inline void forget_memory() { asm volatile("" ::: "memory"); }

// Adding integers costs nothing beside loading them, and no order of sums forbids wide vectors.
template <int kBytes, int kParts>
[[gnu::always_inline]] inline uint64_t read_all(const std::byte* data, int64_t bytes, int64_t rounds) {
  constexpr int kOfPart = kAtOnce / kParts;
  const int64_t part = bytes / kParts / kBytes;
  Words<kBytes> sums[kAtOnce] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    const auto* at = reinterpret_cast<const Words<kBytes>*>(data);
    const auto* const end = at + part;
    for (; at < end; at += kOfPart) {
#pragma GCC unroll 8
      for (int i = 0; i < kAtOnce; ++i) sums[i] += at[i / kOfPart * part + i % kOfPart];
    }
    forget_memory();
  }
  uint64_t sum = 0;
  for (const auto& some : sums)
    for (size_t i = 0; i < kBytes / sizeof(uint64_t); ++i) sum += some[i];
  return sum;
}

template <int kBytes>
[[gnu::always_inline]] inline void write_all(std::byte* data, int64_t bytes, int64_t rounds) {
  for (int64_t round = 0; round < rounds; ++round) {
    auto* at = reinterpret_cast<Words<kBytes>*>(data);
    auto* const end = at + bytes / kBytes;
    const Words<kBytes> value = Words<kBytes>{} + static_cast<uint64_t>(round);
    for (; at < end; at += kAtOnce) {
#pragma GCC unroll 8
      for (int i = 0; i < kAtOnce; ++i) at[i] = value;
    }
    forget_memory();
  }
}

uint64_t read_16(const std::byte* data, int64_t bytes, int64_t rounds) {
  return read_all<16, 1>(data, bytes, rounds);
}
uint64_t read_parts_16(const std::byte* data, int64_t bytes, int64_t rounds) {
  return read_all<16, 4>(data, bytes, rounds);
}
void write_16(std::byte* data, int64_t bytes, int64_t rounds) { write_all<16>(data, bytes, rounds); }

#if defined(__x86_64__)
[[gnu::target("avx2")]] uint64_t read_32(const std::byte* data, int64_t bytes, int64_t rounds) {
  return read_all<32, 1>(data, bytes, rounds);
}
[[gnu::target("avx2")]] uint64_t read_parts_32(const std::byte* data, int64_t bytes, int64_t rounds) {
  return read_all<32, 4>(data, bytes, rounds);
}
[[gnu::target("avx2")]] void write_32(std::byte* data, int64_t bytes, int64_t rounds) {
  write_all<32>(data, bytes, rounds);
}
[[gnu::target("avx512f")]] uint64_t read_64(const std::byte* data, int64_t bytes, int64_t rounds) {
  return read_all<64, 1>(data, bytes, rounds);
}
[[gnu::target("avx512f")]] uint64_t read_parts_64(const std::byte* data, int64_t bytes, int64_t rounds) {
  return read_all<64, 4>(data, bytes, rounds);
}
[[gnu::target("avx512f")]] void write_64(std::byte* data, int64_t bytes, int64_t rounds) {
  write_all<64>(data, bytes, rounds);
}
#endif

}  // namespace

std::vector<Stream> streams() {
  std::vector<Stream> all;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) all.push_back({"avx512", read_64, read_parts_64, write_64});
  if (__builtin_cpu_supports("avx2")) all.push_back({"avx2", read_32, read_parts_32, write_32});
  all.push_back({"sse2", read_16, read_parts_16, write_16});
#else
  all.push_back({"neon", read_16, read_parts_16, write_16});
#endif
  return all;
}

}  // namespace bdh::bench
