// The machine that is measured: its processor, caches and load.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace bdh::bench {

/// Where data lies when it is read again and again.
enum class Level : uint8_t { l1, l2, l3, memory };

struct Machine {
  std::string processor;  // "AMD EPYC"
  int cores = 1;          // this process may use
  double l1 = 0, l2 = 0;  // bytes of one core's cache
  double l3 = 0;          // bytes of one shared cache; 0: there is none
  double load = 0;        // runnable threads in the minute before

  /// The nearest level that holds so many bytes, shared out over so many threads.
  Level level_of(double bytes, int threads) const;
};

Machine this_machine();

const char* name_of(Level level);

/// Bytes, at least four times the last cache, of 16-bit patterns that are ordinary numbers as bf16, f16 and,
/// two together, f32. Made at the first call; read it, do not write it.
struct Block {
  const std::byte* data;
  int64_t bytes;
};
Block large_block();
/// As many bytes, to be written over and over.
std::byte* scratch_block();

/// As many bytes of the same kind, writable, aligned to pages when large.
std::shared_ptr<std::byte> random_numbers(int64_t bytes);

}  // namespace bdh::bench
