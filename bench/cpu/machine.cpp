// Looks the machine up, and makes the memory that benchmarks read.
#include "bench/cpu/machine.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "bdh/base/memory.h"
#include "bdh/base/threads.h"

namespace bdh::bench {

namespace {

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

double cache_bytes(int level) {
  for (const auto& cache : benchmark::CPUInfo::Get().caches) {
    if (cache.level == level && cache.type != "Instruction") return static_cast<double>(cache.size);
  }
  return 0;
}

int64_t large_bytes() {
  constexpr int64_t kLeast = 128 << 20;
  const auto caches = static_cast<int64_t>(5 * std::max(cache_bytes(3), cache_bytes(2)));
  const auto quarter_of_free = static_cast<int64_t>(available_memory() / 4);
  constexpr int64_t kWhole = 1 << 20;
  return std::min(std::max(kLeast, caches), quarter_of_free) / kWhole * kWhole;
}

}  // namespace

Machine this_machine() {
  Machine machine{processor_name(), available_cores(), cache_bytes(1), cache_bytes(2), cache_bytes(3), 0};
  getloadavg(&machine.load, 1);
  return machine;
}

Level Machine::level_of(double bytes, int threads) const {
  if (bytes <= l1 * threads) return Level::l1;
  if (bytes <= l2 * threads) return Level::l2;
  return bytes <= l3 ? Level::l3 : Level::memory;
}

const char* name_of(Level level) {
  switch (level) {
    case Level::l1:
      return "L1";
    case Level::l2:
      return "L2";
    case Level::l3:
      return "L3";
    default:
      return "memory";
  }
}

std::shared_ptr<std::byte> random_numbers(int64_t bytes) {
  std::shared_ptr<std::byte> memory =
      allocate_zeroed(static_cast<size_t>(bytes), "the numbers to benchmark with");
  uint64_t random = 88172645463325252u;  // xorshift
  for (int64_t at = 0; at + 8 <= bytes; at += 8) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const uint64_t word =
        (random & 0x80ff80ff80ff80ffu) | 0x3c003c003c003c00u;  // 0.008 .. 0.03, and 1 .. 1.25 as f16
    std::memcpy(memory.get() + at, &word, sizeof word);
  }
  return memory;
}

Block large_block() {
  static const int64_t bytes = large_bytes();
  static const std::shared_ptr<std::byte> memory = random_numbers(bytes);
  return {memory.get(), bytes};
}

std::byte* scratch_block() {
  static const std::shared_ptr<std::byte> memory =
      allocate_zeroed(static_cast<size_t>(large_block().bytes), "the memory to write to");
  return memory.get();
}

}  // namespace bdh::bench
