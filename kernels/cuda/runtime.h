// The CUDA runtime as the backend uses it: answers checked, memory and streams owned, kernels started.
// Compiled with BDH_CUDA_EMULATED it runs on a CPU, for tests.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#ifdef BDH_CUDA_EMULATED
#include "emulator.h"
#endif

namespace bdh::cuda {

/// Throws Error for anything but success: out_of_memory, not_found (no device) or unsupported, naming `what`.
void check(cudaError_t status, const char* what);

/// Bytes that the runtime handed out; Release gives them back.
template <class Release>
class Memory {
 public:
  size_t bytes() const { return data_ ? bytes_ : 0; }
  template <class Element>
  Element* as() const {
    return static_cast<Element*>(data_.get());
  }

 protected:
  std::unique_ptr<void, Release> data_;
  size_t bytes_ = 0;
};

struct ReleaseDevice {
  void operator()(void* data) const;
};
struct ReleasePinned {
  void operator()(void* data) const;
};

/// Device memory, not initialised. Throws Error(out_of_memory) with the bytes needed and free.
class DeviceMemory : public Memory<ReleaseDevice> {
 public:
  DeviceMemory() = default;
  DeviceMemory(size_t bytes, const char* what);
};

/// Page-locked host memory, which copies to and from the device run on asynchronously.
class PinnedMemory : public Memory<ReleasePinned> {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(size_t bytes);
};

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  /// Waits for everything queued. Throws Error when a kernel failed.
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

/// A place in a stream.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  /// The place is where the stream ends now.
  void record(const Stream& stream) const;
  /// Waits for what was queued before it; returns at once where nothing was recorded.
  void wait() const;
  /// Of the GPU, between two events that it has passed.
  double seconds_since(const Event& before) const;

 private:
  cudaEvent_t event_ = nullptr;
};

/// Work recorded once and started as a whole.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  Graph& operator=(Graph&&) = delete;
  /// Records what `queue()` queues on the stream: what other threads queue there meanwhile, too.
  template <class Queue>
  static Graph record(const Stream& stream, Queue&& queue) {
    begin(stream);
    try {
      queue();
    } catch (...) {
      abandon(stream);
      throw;
    }
    return end(stream);
  }
  void start(const Stream& stream) const;

 private:
  static void begin(const Stream& stream);
  static void abandon(const Stream& stream);
  static Graph end(const Stream& stream);
  cudaGraphExec_t graph_ = nullptr;
};

/// Names what is queued while it lives, in the time line of a profiler (NVTX).
class Range {
 public:
  explicit Range(const char* name);
  ~Range();
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

/// Blocks, threads of a block, and bytes of shared memory of a block. overlap: the kernel may start while the
/// kernel before it ends, and calls follow_previous() (device.h); for GPUs that can_overlap.
struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared = 0;
  bool overlap = false;
};

/// Lets a kernel have more than the 48 KB of shared memory that every block may.
void allow_shared(const void* kernel, size_t bytes);

/// Starts a kernel, whose arguments are at `arguments`.
void start_kernel(cudaStream_t stream, const Grid& grid, const void* kernel, void** arguments);

/// Starts kernel(arguments...).
template <class... Parameters>
void launch(cudaStream_t stream, const Grid& grid, void (*kernel)(Parameters...),
            std::type_identity_t<Parameters>... arguments) {
  const void* function = reinterpret_cast<const void*>(kernel);
  allow_shared(function, grid.shared);
#ifdef BDH_CUDA_EMULATED
  emulation::launch(
      nullptr, function, grid.blocks, grid.threads, grid.shared, stream,
      [kernel, arguments...] { kernel(arguments...); }, grid.overlap);
  check(cudaGetLastError(), "starting a kernel");
#else
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
  start_kernel(stream, grid, function, pointers);
#endif
}

}  // namespace bdh::cuda
