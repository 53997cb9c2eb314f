// The emulator itself: what its threads see of each other, and that it finds the mistakes it is there to
// find.
#include "tests/support/cuda/emulator.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

/// The emulator as it starts, before and after a test.
struct Emulator {
  Emulator() { emulation::reset(); }
  ~Emulator() { emulation::reset(); }
};

template <class Body>
cudaError_t run(dim3 grid, dim3 block, size_t shared_bytes, Body body, cudaStream_t stream = nullptr) {
  return emulation::launch("test", nullptr, grid, block, shared_bytes, stream, body);
}

template <class Body>
std::string failure_of(unsigned threads, Body body) {
  try {
    run(1, threads, 1024, body);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

float* shared_floats() { return reinterpret_cast<float*>(emulation::shared_memory()); }

float block_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  float* const sums = shared_floats();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += sums[warp];
  __syncthreads();
  return total;
}

constexpr uint64_t kSeeds[] = {0, 1, 2, 3, 12345};

}  // namespace

TEST_CASE("emulator: every thread of every block runs once, with its own indices") {
  const Emulator emulator;
  for (const uint64_t seed : kSeeds) {
    emulation::set_thread_order(seed);
    std::vector<int> seen(5 * 3 * 2 * 48, 0);
    const uint64_t before = emulation::launches();
    CHECK(run(dim3(5, 3, 2), dim3(4, 6, 2), 0, [&] {
            const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
            const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
            if (thread % 2 == 1) __syncthreads();
            ++seen[block * 48 + thread];
          }) == cudaSuccess);
    CHECK(emulation::launches() == before + 1);
    CHECK(seen == std::vector<int>(seen.size(), 1));
  }
}

TEST_CASE("emulator: a sum over a block, by shuffles and shared memory") {
  const Emulator emulator;
  for (const uint64_t seed : kSeeds) {
    emulation::set_thread_order(seed);
    std::vector<float> sums(3 * 256, 0.0f);
    run(3, 256, 8 * sizeof(float), [&] {
      sums[blockIdx.x * 256 + threadIdx.x] = block_sum(static_cast<float>(threadIdx.x + 1000 * blockIdx.x));
    });
    for (size_t i = 0; i < sums.size(); ++i)
      REQUIRE(sums[i] == 32640.0f + 256000.0f * static_cast<float>(i / 256));
  }
}

TEST_CASE("emulator: shuffles of every kind and width") {
  const Emulator emulator;
  run(1, 32, 0, [] {
    const int lane = static_cast<int>(threadIdx.x);
    CHECK(__shfl_sync(~0u, lane, 5) == 5);
    CHECK(__shfl_sync(~0u, 100 + lane, 3, 8) == 100 + (lane & ~7) + 3);
    CHECK(__shfl_xor_sync(~0u, 1.5 * lane, 9) == 1.5 * (lane ^ 9));
    CHECK(__shfl_up_sync(~0u, lane, 3) == (lane < 3 ? lane : lane - 3));
    CHECK(__shfl_down_sync(~0u, lane, 3, 16) == (lane % 16 > 12 ? lane : lane + 3));
    CHECK(__shfl_xor_sync(~0u, uint64_t{1} << lane, 1) == uint64_t{1} << (lane ^ 1));
    CHECK(__ballot_sync(~0u, lane % 3 == 0) == 0x49249249u);
    CHECK(__any_sync(~0u, lane == 7) == 1);
    CHECK(__any_sync(~0u, lane == 32) == 0);
    CHECK(__all_sync(~0u, lane < 32) == 1);
    CHECK(__all_sync(~0u, lane < 31) == 0);
    CHECK(__reduce_add_sync(~0u, lane) == 496);
    CHECK(__reduce_max_sync(~0u, -lane) == 0);
    CHECK(__syncthreads_count(lane < 5) == 5);
    CHECK(__syncthreads_or(lane == 31) == 1);
    CHECK(__syncthreads_or(0) == 0);
    CHECK(__syncthreads_and(lane < 32) == 1);
  });
}

TEST_CASE("emulator: a lane that is not there gives NaN") {
  const Emulator emulator;
  run(1, 16, 0, [] { CHECK(std::isnan(__shfl_xor_sync(~0u, 1.0f, 16))); });
}

TEST_CASE("emulator: a missing barrier shows in some order") {
  const Emulator emulator;
  const auto right_in_order = [](uint64_t seed, bool barrier) {
    emulation::set_thread_order(seed);
    bool right = true;
    run(1, 128, 128 * sizeof(float), [&] {
      const unsigned from =
          threadIdx.x < 32 ? threadIdx.x : threadIdx.x - 32;  // a warp that runs before, in order
      shared_floats()[threadIdx.x] = static_cast<float>(threadIdx.x);
      __syncwarp();
      if (barrier) __syncthreads();
      if (shared_floats()[from] != static_cast<float>(from)) right = false;
    });
    return right;
  };
  int wrong = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CHECK(right_in_order(seed, true));
    if (!right_in_order(seed, false)) ++wrong;
  }
  CHECK(right_in_order(0, false));
  CHECK(wrong >= 15);  // of 19: an order may happen to be right
}

TEST_CASE("emulator: a missing __syncwarp shows") {
  const Emulator emulator;
  bool right = true;
  run(1, 32, 32 * sizeof(float), [&] {
    shared_floats()[threadIdx.x] = 1.0f;
    if (shared_floats()[31 - threadIdx.x] != 1.0f) right = false;
  });
  CHECK_FALSE(right);
}

TEST_CASE("emulator: blocks that need an order of blocks are wrong in some order") {
  const Emulator emulator;
  int wrong = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    emulation::set_thread_order(seed);
    int last = -1;
    bool right = true;
    run(8, 1, 0, [&] {
      if (last != static_cast<int>(blockIdx.x) - 1) right = false;
      last = static_cast<int>(blockIdx.x);
    });
    if (!right) ++wrong;
    if (seed == 0) CHECK(right);
  }
  CHECK(wrong == 9);
}

TEST_CASE("emulator: a seed gives the same order every time") {
  const Emulator emulator;
  const auto order = [](uint64_t seed) {
    emulation::set_thread_order(seed);
    std::vector<unsigned> threads;
    run(3, 64, 0, [&] {
      threads.push_back(threadIdx.x);
      __syncthreads();
      threads.push_back(threadIdx.x);
    });
    return threads;
  };
  CHECK(order(7) == order(7));
  CHECK(order(7) != order(8));
}

TEST_CASE("emulator: threads that wait in vain, or at different places, are reported") {
  const Emulator emulator;
  for (const uint64_t seed : kSeeds) {
    emulation::set_thread_order(seed);
    const std::string mixed = failure_of(64, [] {
      if (threadIdx.x == 3) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    });
    CHECK(
        contains(mixed,
                 "test, block (0, 0, 0): threads wait for each other in vain: 1 at __syncthreads (first: 3), "
                 "31 at __syncwarp (first: 0), 32 have ended"));
    CHECK(contains(
        failure_of(32, [] { threadIdx.x < 7 ? (void)__shfl_sync(~0u, 1, 0) : (void)__any_sync(~0u, 1); }),
        "while others wait at"));
    CHECK(contains(failure_of(32, [] { threadIdx.x < 7 ? __syncthreads() : (void)__syncthreads_or(1); }),
                   "while others wait at"));
    CHECK(contains(failure_of(32, [] { __syncwarp(0xFFFF); }), "mask that leaves out lanes"));
    CHECK(contains(failure_of(32, [] { throw std::logic_error("from a thread"); }), "from a thread"));
  }
  CHECK(failure_of(64, [] { __syncthreads(); }).empty());
  CHECK_THROWS_AS(__syncthreads(), std::logic_error);
}

TEST_CASE("emulator: threads that have ended are not waited for") {
  const Emulator emulator;
  for (const uint64_t seed : kSeeds) {
    emulation::set_thread_order(seed);
    int after = 0;
    run(1, 96, 0, [&] {
      if (threadIdx.x >= 40) return;
      __syncthreads();
      if (threadIdx.x < 32 && __any_sync(~0u, 1) != 0) ++after;
    });
    CHECK(after == 32);
  }
}

TEST_CASE("emulator: shared memory starts as NaN in every block") {
  const Emulator emulator;
  run(2, 32, 32 * sizeof(float), [] {
    CHECK(reinterpret_cast<uintptr_t>(emulation::shared_memory()) % 128 == 0);
    CHECK(std::isnan(shared_floats()[threadIdx.x]));
    shared_floats()[threadIdx.x] = 0;
  });
}

TEST_CASE("emulator: launches that no device could run are refused") {
  const Emulator emulator;
  const auto nothing = [] {};
  const void* const kernel = &kSeeds;
  CHECK(run(1, 1025, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(run(1, dim3(32, 33), 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(run(0, 32, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(run(1, dim3(1, 0), 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(run(dim3(1, 65536), 1, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(run(1, 1, 48 * 1024, nothing) == cudaSuccess);
  CHECK(run(1, 1, 48 * 1024 + 1, nothing) == cudaErrorInvalidConfiguration);
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024) == cudaSuccess);
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1) ==
        cudaErrorInvalidValue);
  CHECK(emulation::launch("test", kernel, 1, 1, 227 * 1024, nullptr, nothing) == cudaSuccess);
  emulation::set_devices({{.capability = 86}});
  CHECK(emulation::launch("test", kernel, 1, 1, 227 * 1024, nullptr, nothing) ==
        cudaErrorInvalidConfiguration);
  emulation::set_devices({{.capability = 75}});
  CHECK(run(1, 1, 0, nothing) == cudaErrorNoKernelImageForDevice);
}

TEST_CASE("emulator: kernels of several host threads at once") {
  const Emulator emulator;
  std::vector<std::thread> threads;
  std::vector<float> sums(4);
  for (size_t i = 0; i < sums.size(); ++i) {
    threads.emplace_back([i, &sums] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        run(4, 128, 64, [i, &sums] { sums[i] = block_sum(static_cast<float>(i)); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(sums == std::vector<float>{0, 128, 256, 384});
}

TEST_CASE("emulator: atomics return what was there") {
  const Emulator emulator;
  unsigned counter = 0, ring = 0;
  float sum = 0;
  int least = 100;
  run(4, 64, 0, [&] {
    atomicAdd(&counter, 1u);
    atomicAdd(&sum, 0.5f);
    atomicInc(&ring, 2);
    atomicMin(&least, static_cast<int>(threadIdx.x));
  });
  CHECK(counter == 256);
  CHECK(sum == 128.0f);
  CHECK(ring == 256 % 3);
  CHECK(least == 0);
  CHECK(atomicAdd(&counter, 5u) == 256);
  CHECK(atomicCAS(&counter, 261u, 1u) == 261);
  CHECK(counter == 1);
}
