// Reading and writing memory as fast as this processor's vectors can: what the limits of a CPU are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bdh::bench {

/// A stream's loops for one width of vectors.
struct Stream {
  const char* isa;
  /// Reads `bytes` bytes `rounds` times; the sum of their 64-bit words. bytes: a multiple of 4096.
  uint64_t (*read)(const std::byte* data, int64_t bytes, int64_t rounds);
  /// The same as four parts side by side, which some processors' prefetching follows better.
  uint64_t (*read_parts)(const std::byte* data, int64_t bytes, int64_t rounds);
  /// Writes them `rounds` times, with ordinary stores.
  void (*write)(std::byte* data, int64_t bytes, int64_t rounds);
};

/// Those that this processor runs, the widest first.
std::vector<Stream> streams();

}  // namespace bdh::bench
