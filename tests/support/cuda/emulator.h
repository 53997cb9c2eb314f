// How a kernel is launched on the emulator, and what tests can make of it: devices, drivers, failures, orders
// of execution.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/cuda/cuda_runtime.h"

namespace emulation {

/// What kernels are compiled for: on an older device they are missing (cudaErrorNoKernelImageForDevice).
constexpr int kOldestCapability = 80;

struct Device {
  std::string name = "Emulated GPU";
  int capability = 90;  // 10 * major + minor
  size_t total_memory = size_t{4} << 30;
  size_t free_memory = size_t{4} << 30;  // before anything is allocated here
  int multiprocessors = 4;
};

/// Runs `body` for every thread, or puts it into the graph that the stream captures. Errors are also left for
/// cudaGetLastError. `kernel` is for messages and may be null; `function` is what cudaFuncSetAttribute was
/// told of. early: the kernel may start before the work before it is done (programmatic dependent launch); in
/// a graph, or where streams lag, its first block does. Throws std::logic_error when threads wait for each
/// other in vain.
cudaError_t launch(const char* kernel, const void* function, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> body, bool early = false);

/// One device is there at first. Allocations and streams stay as they are.
void set_devices(std::vector<Device> devices);
/// As cudaDriverGetVersion gives it; 0: there is no driver. CUDART_VERSION at first.
void set_driver_version(int version);
/// The allocation of device or pinned memory after `successes` more is refused (cudaErrorMemoryAllocation).
void fail_next_allocation(size_t successes = 0);
/// The start of a kernel or a graph after `successes` more is refused (cudaErrorLaunchOutOfResources).
void fail_next_launch(size_t successes = 0);
/// 0: threads and blocks run in order; else their order is shuffled from the seed, as far as barriers allow.
void set_thread_order(uint64_t seed);
/// true: the work of a stream other than the default one waits until something waits for the stream, the
/// device or an event, as a slow device's would; a deadlock is then thrown there. false: it is done before
/// the call returns.
void set_streams_lazy(bool lazy);
/// All of the above as at first; this thread's last error is forgotten.
void reset();

/// Kernels run so far, those of graphs included.
uint64_t launches();
uint64_t graph_launches();
/// Allocations of device memory so far.
uint64_t allocations();
/// Device memory held now.
size_t bytes_allocated();

}  // namespace emulation
