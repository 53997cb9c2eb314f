// Streams, events, graphs, and the calls that put work into them. A stream's work is a list of functions:
// done at once, kept for a graph, or left until somebody waits for it.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/cuda/block.h"
#include "tests/support/cuda/device_memory.h"
#include "tests/support/cuda/devices.h"
#include "tests/support/cuda/emulator.h"

namespace emulation {
namespace {

/// Something that a stream does. What may start early is given all that it may start before, and sees to it;
/// so everything that is early starts before everything that it may.
struct Work {
  using Before = std::function<void()>;
  std::function<void(const Before& before)> run;
  bool early = false;
};
using Clock = std::chrono::steady_clock;

struct Capture {
  std::vector<Work> works = {};
  CUstream_st* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread = std::this_thread::get_id();
  bool invalidated = false;
};

}  // namespace
}  // namespace emulation

struct CUstream_st {
  std::vector<emulation::Work> queue = {};
  std::shared_ptr<emulation::Capture> capture = {};
  std::exception_ptr thrown = {};  // by work that was done where nothing may throw
  std::mutex running = {};         // held while work is done; taken before state.mutex
};

struct CUevent_st {
  struct Record {
    std::atomic<bool> done = false;
    emulation::Clock::time_point time = {};
  };
  bool timed = true;
  cudaStream_t stream = nullptr;
  std::shared_ptr<Record> record = {};
  std::shared_ptr<emulation::Capture> capture = {};
};

struct CUgraph_st {
  std::vector<emulation::Work> works;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<emulation::Work>> works;
};

namespace emulation {
namespace {

struct State {
  std::mutex mutex;
  std::map<cudaStream_t, std::shared_ptr<CUstream_st>> streams = {{nullptr, std::make_shared<CUstream_st>()}};
  std::map<const void*, int> shared_limits;
};
State state;
std::atomic<bool> streams_lazy{false};
std::atomic<uint64_t> launch_count{0};
std::atomic<size_t> launches_left{~size_t{0}};  // before one is refused
std::atomic<uint64_t> graph_launch_count{0};

std::shared_ptr<CUstream_st> find(cudaStream_t stream) {
  const std::lock_guard lock(state.mutex);
  const auto found = state.streams.find(stream);
  return found == state.streams.end() ? nullptr : found->second;
}

// How many of the works, the first and those that may start before it is done, run together.
size_t count_together(std::span<const Work> works) {
  size_t count = std::min<size_t>(works.size(), 1);
  while (count < works.size() && works[count].early) ++count;
  return count;
}

std::vector<Work> take_first(CUstream_st& stream) {
  const std::lock_guard lock(state.mutex);
  const auto begin = stream.queue.begin(),
             end = begin + static_cast<std::ptrdiff_t>(count_together(stream.queue));
  std::vector<Work> works(std::make_move_iterator(begin), std::make_move_iterator(end));
  stream.queue.erase(begin, end);
  return works;
}

// The last is begun first.
void do_together(std::span<const Work> works) {
  const std::span before = works.first(works.size() - 1);
  works.back().run(before.empty() ? Work::Before() : [before] { do_together(before); });
}

void do_work(CUstream_st& stream) {
  const std::lock_guard lock(stream.running);
  if (stream.thrown) std::rethrow_exception(std::exchange(stream.thrown, nullptr));
  for (std::vector<Work> works; !(works = take_first(stream)).empty();) do_together(works);
}

/// What is thrown waits for the next call that may throw.
void do_all_work_quietly() {
  std::vector<std::shared_ptr<CUstream_st>> streams;
  {
    const std::lock_guard lock(state.mutex);
    for (const auto& [handle, stream] : state.streams) streams.push_back(stream);
  }
  for (const auto& stream : streams) {
    try {
      do_work(*stream);
    } catch (...) {
      const std::lock_guard lock(stream->running);
      stream->thrown = std::current_exception();
    }
  }
}

/// Refuses what may not happen while a stream captures, and spoils the capture.
cudaError_t capture_error() {
  const std::lock_guard lock(state.mutex);
  cudaError_t error = cudaSuccess;
  for (const auto& [handle, stream] : state.streams) {
    if (!stream->capture) continue;
    Capture& capture = *stream->capture;
    const bool concerned =
        capture.mode == cudaStreamCaptureModeGlobal ||
        (capture.mode == cudaStreamCaptureModeThreadLocal && capture.thread == std::this_thread::get_id());
    if (!concerned) continue;
    capture.invalidated = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

cudaError_t usable() {
  if (const cudaError_t error = device_error()) return error;
  return capture_error();
}

/// A stream that is there and does not capture; else why not.
cudaError_t find_to_wait_for(cudaStream_t handle, std::shared_ptr<CUstream_st>& stream) {
  if (const cudaError_t error = device_error()) return error;
  stream = find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(state.mutex);
  if (!stream->capture) return cudaSuccess;
  stream->capture->invalidated = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t wait_for(cudaStream_t handle) {
  std::shared_ptr<CUstream_st> stream;
  if (const cudaError_t error = find_to_wait_for(handle, stream)) return error;
  do_work(*stream);
  return cudaSuccess;
}

cudaError_t submit(cudaStream_t handle, Work work) {
  if (const cudaError_t error = device_error()) return error;
  const std::shared_ptr<CUstream_st> stream = find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  {
    const std::lock_guard lock(state.mutex);
    if (stream->capture && stream->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    std::vector<Work>& works = stream->capture ? stream->capture->works : stream->queue;
    works.push_back(std::move(work));
    if (stream->capture || (streams_lazy && handle != nullptr)) return cudaSuccess;
  }
  do_work(*stream);
  return cudaSuccess;
}

cudaError_t submit(cudaStream_t handle, std::function<void()> work) {
  return submit(handle, Work{[work = std::move(work)](const Work::Before&) { work(); }});
}

bool is_capturing(cudaStream_t handle) {
  const std::lock_guard lock(state.mutex);
  const auto found = state.streams.find(handle);
  return found != state.streams.end() && found->second->capture != nullptr;
}

size_t shared_limit(const void* function) {
  const std::lock_guard lock(state.mutex);
  const auto found = state.shared_limits.find(function);
  return found == state.shared_limits.end() ? kSharedBytes : static_cast<size_t>(found->second);
}

bool is_valid(dim3 grid, dim3 block) {
  constexpr unsigned kMostBlocks = 65535, kMostLayers = 64;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) return false;
  if (grid.x > 0x7FFFFFFF || grid.y > kMostBlocks || grid.z > kMostBlocks) return false;
  if (block.x > kMostThreads || block.y > kMostThreads || block.z > kMostLayers) return false;
  return block.x * block.y * block.z <= kMostThreads;
}

cudaError_t check_launch(const void* function, dim3 grid, dim3 block, size_t shared_bytes) {
  if (const cudaError_t error = device_error()) return error;
  const Device device = current_device();
  if (device.capability < kOldestCapability) return cudaErrorNoKernelImageForDevice;
  if (!is_valid(grid, block)) return cudaErrorInvalidConfiguration;
  if (shared_bytes > most_shared_bytes(device) ||
      shared_bytes > std::max(kSharedBytes, shared_limit(function))) {
    return cudaErrorInvalidConfiguration;
  }
  return cudaSuccess;
}

void copy_area(void* to, const Area& to_area, const void* from, const Area& from_area) {
  for (size_t row = 0; row < to_area.height; ++row) {
    std::memcpy(static_cast<char*>(to) + row * to_area.pitch,
                static_cast<const char*>(from) + row * from_area.pitch, to_area.width);
  }
}

/// As the runtime does, pageable memory of the host is read before the call returns, and written before too.
cudaError_t copy_in_order(void* to, const Area& to_area, const void* from, const Area& from_area,
                          cudaStream_t stream) {
  const bool from_pageable = !is_device_memory(from, 1) && !is_pinned_memory(from, 1);
  const bool to_pageable = !is_device_memory(to, 1) && !is_pinned_memory(to, 1);
  if (!from_pageable || is_capturing(stream)) {
    const cudaError_t error = submit(stream, [=] { copy_area(to, to_area, from, from_area); });
    return error != cudaSuccess || !to_pageable || is_capturing(stream) ? error : wait_for(stream);
  }
  std::vector<char> copied(from_area.reach());
  std::memcpy(copied.data(), from, copied.size());
  return submit(stream, [=, data = std::move(copied)] { copy_area(to, to_area, data.data(), from_area); });
}

cudaError_t copy(void* to, const Area& to_area, const void* from, const Area& from_area, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  if (const cudaError_t error = device_error()) return error;
  if (to_area.width > to_area.pitch || to_area.width > from_area.pitch) return cudaErrorInvalidPitchValue;
  if (const cudaError_t error = check_copy(to, to_area, from, from_area, kind)) return error;
  if (to_area.reach() == 0) return cudaSuccess;
  return copy_in_order(to, to_area, from, from_area, stream);
}

}  // namespace

bool launch_is_refused() {
  if (launches_left == ~size_t{0}) return false;
  return launches_left-- == 0;  // then ~0: once only
}

cudaError_t launch(const char* kernel, const void* function, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> body, bool early) {
  if (const cudaError_t error = check_launch(function, grid, block, shared_bytes)) return remember(error);
  if (launch_is_refused()) return remember(cudaErrorLaunchOutOfResources);
  const auto run = [=, body = std::move(body)](const Work::Before& before) {
    ++launch_count;
    run_grid({kernel, grid, block, shared_bytes, thread_order(), body, before});
  };
  return remember(submit(stream, {run, early}));
}

void fail_next_launch(size_t successes) { launches_left = successes; }
void set_streams_lazy(bool lazy) { streams_lazy = lazy; }
uint64_t launches() { return launch_count; }
uint64_t graph_launches() { return graph_launch_count; }

}  // namespace emulation

using emulation::Area;
using emulation::remember;
using emulation::state;

// --- memory

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (const cudaError_t error = emulation::usable()) return remember(error);
  return remember(emulation::allocate_device(memory, bytes));
}

cudaError_t cudaFree(void* memory) {
  if (const cudaError_t error = emulation::usable()) return remember(error);
  emulation::do_all_work_quietly();
  return remember(emulation::free_device(memory));
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) { return cudaMalloc(memory, bytes); }

cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Area area{bytes, bytes, 1};
  return remember(emulation::copy(to, area, from, area, kind, stream));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return remember(
      emulation::copy(to, {to_pitch, width, height}, from, {from_pitch, width, height}, kind, stream));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t error = emulation::usable()) return remember(error);
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                         size_t height, cudaMemcpyKind kind) {
  if (const cudaError_t error = emulation::usable()) return remember(error);
  return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  if (bytes == 0) return cudaSuccess;
  if (!emulation::is_device_memory(memory, bytes)) return remember(cudaErrorInvalidValue);
  return remember(emulation::submit(stream, [=] { std::memset(memory, value, bytes); }));
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  if (const cudaError_t error = emulation::usable()) return remember(error);
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}

// --- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  const auto made = std::make_shared<CUstream_st>();
  const std::lock_guard lock(state.mutex);
  state.streams[made.get()] = made;
  *stream = made.get();
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  if (handle == nullptr || emulation::find(handle) == nullptr)
    return remember(cudaErrorInvalidResourceHandle);
  emulation::do_all_work_quietly();
  const std::lock_guard lock(state.mutex);
  state.streams.erase(handle);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return remember(emulation::wait_for(stream)); }

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  std::shared_ptr<CUstream_st> stream;
  if (const cudaError_t error = emulation::find_to_wait_for(handle, stream)) return remember(error);
  const std::lock_guard lock(state.mutex);
  return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = emulation::usable()) return remember(error);
  std::vector<std::shared_ptr<CUstream_st>> streams;
  {
    const std::lock_guard lock(state.mutex);
    for (const auto& [handle, stream] : state.streams) streams.push_back(stream);
  }
  for (const auto& stream : streams) emulation::do_work(*stream);
  return cudaSuccess;
}

// --- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  auto made = std::make_unique<CUevent_st>();
  made->timed = (flags & cudaEventDisableTiming) == 0;
  *event = made.release();
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const std::shared_ptr<CUstream_st> stream = emulation::find(handle);
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  {
    const std::lock_guard lock(state.mutex);
    event->capture = stream->capture;
    event->stream = handle;
    if (stream->capture) return cudaSuccess;
  }
  event->record = std::make_shared<CUevent_st::Record>();
  return remember(emulation::submit(handle, [record = event->record] {
    record->time = emulation::Clock::now();
    record->done = true;
  }));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->capture) return remember(cudaErrorCapturedEvent);
  return event->record == nullptr || event->record->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->capture) return remember(cudaErrorCapturedEvent);
  if (event->record == nullptr || event->record->done) return cudaSuccess;
  return remember(emulation::wait_for(event->stream));
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->timed || !end->timed || !start->record || !end->record)
    return remember(cudaErrorInvalidResourceHandle);
  if (!start->record->done || !end->record->done) return remember(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->record->time - start->record->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const std::shared_ptr<CUstream_st> stream = emulation::find(handle);
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (!event->capture) return cudaEventSynchronize(event);
  const std::lock_guard lock(state.mutex);
  if (stream->capture != nullptr && stream->capture != event->capture)
    return remember(cudaErrorCapturedEvent);
  stream->capture = event->capture;  // the order of the calls is an order that the graph allows
  return cudaSuccess;
}

// --- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  if (handle == nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  const std::shared_ptr<CUstream_st> stream = emulation::find(handle);
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(state.mutex);
  if (stream->capture) return remember(cudaErrorIllegalState);
  stream->capture = std::make_shared<emulation::Capture>(emulation::Capture{.origin = handle, .mode = mode});
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::shared_ptr<CUstream_st> stream = emulation::find(handle);
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(state.mutex);
  const std::shared_ptr<emulation::Capture> capture = stream->capture;
  if (!capture) return remember(cudaErrorIllegalState);
  if (capture->origin != handle) return remember(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return remember(cudaErrorStreamCaptureWrongThread);
  }
  for (const auto& [other_handle, other] : state.streams) {
    if (other->capture == capture) other->capture = nullptr;
  }
  if (capture->invalidated) return remember(cudaErrorStreamCaptureInvalidated);
  *graph = std::make_unique<CUgraph_st>(CUgraph_st{std::move(capture->works)}).release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const std::shared_ptr<CUstream_st> stream = emulation::find(handle);
  if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(state.mutex);
  *status = cudaStreamCaptureStatusNone;
  if (stream->capture) {
    *status =
        stream->capture->invalidated ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return remember(cudaErrorInvalidValue);
  auto works = std::make_shared<const std::vector<emulation::Work>>(graph->works);
  *executable = std::make_unique<CUgraphExec_st>(CUgraphExec_st{std::move(works)}).release();
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return remember(cudaErrorInvalidValue);
  if (emulation::launch_is_refused()) return remember(cudaErrorLaunchOutOfResources);
  return remember(emulation::submit(stream, [works = executable->works] {
    ++emulation::graph_launch_count;
    for (std::span<const emulation::Work> left = *works; !left.empty();) {
      const size_t count = emulation::count_together(left);
      emulation::do_together(left.first(count));
      left = left.subspan(count);
    }
  }));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return remember(emulation::device_error()); }

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

// --- kernels

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > emulation::most_shared_bytes(emulation::current_device())) {
    return remember(cudaErrorInvalidValue);
  }
  const std::lock_guard lock(state.mutex);
  state.shared_limits[function] = value;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  const emulation::Device device = emulation::current_device();
  if (device.capability < emulation::kOldestCapability) return remember(cudaErrorNoKernelImageForDevice);
  *attributes = {.sharedSizeBytes = 0,
                 .constSizeBytes = 0,
                 .localSizeBytes = 0,
                 .maxThreadsPerBlock = emulation::kMostThreads,
                 .numRegs = 64,
                 .ptxVersion = emulation::kOldestCapability,
                 .binaryVersion = device.capability,
                 .maxDynamicSharedSizeBytes = static_cast<int>(emulation::shared_limit(function))};
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int block_size,
                                                          size_t shared_bytes) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  if (block_size < 1 || block_size > emulation::kMostThreads) return remember(cudaErrorInvalidValue);
  *blocks = 0;
  const size_t most = emulation::most_shared_bytes(emulation::current_device());
  if (shared_bytes > most ||
      shared_bytes > std::max(emulation::kSharedBytes, emulation::shared_limit(function))) {
    return cudaSuccess;
  }
  const size_t by_threads = 2048 / static_cast<size_t>(block_size);
  const size_t by_memory = (most + 1024) / (shared_bytes + 1024);  // each block takes 1 KB for the system
  *blocks = static_cast<int>(std::min({by_threads, by_memory, size_t{32}}));
  return cudaSuccess;
}
