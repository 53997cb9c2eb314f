// Checks, memory, streams and graphs: thin owners of what the CUDA runtime hands out.
#include "kernels/cuda/runtime.h"

#include <nvtx3/nvToolsExt.h>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"

namespace bdh::cuda {

namespace {

constexpr size_t kEveryBlockHas = 48 << 10;  // bytes of shared memory

ErrorKind kind_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return ErrorKind::out_of_memory;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
      return ErrorKind::not_found;
    default:
      return ErrorKind::unsupported;
  }
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report this one again
  fail(kind_of(status), "CUDA: ", what, " failed: ", cudaGetErrorString(status), " (",
       cudaGetErrorName(status), ")");
}

void ReleaseDevice::operator()(void* data) const { cudaFree(data); }
void ReleasePinned::operator()(void* data) const { cudaFreeHost(data); }

DeviceMemory::DeviceMemory(size_t bytes, const char* what) {
  if (bytes == 0) return;
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for free memory");
    fail(ErrorKind::out_of_memory, what, " needs ", format_bytes(bytes), " of GPU memory, but ",
         format_bytes(free), " of ", format_bytes(total),
         " are free; use a smaller dtype or batch, or --device cpu");
  }
  check(status, "allocating GPU memory");
  data_.reset(data);
  bytes_ = bytes;
}

PinnedMemory::PinnedMemory(size_t bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  check(cudaMallocHost(&data, bytes), "allocating page-locked memory");
  data_.reset(data);
  bytes_ = bytes;
}

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }

Stream::~Stream() {
  if (stream_) cudaStreamDestroy(stream_);
}

void Stream::wait() const { check(cudaStreamSynchronize(stream_), "running a kernel"); }

Event::Event() { check(cudaEventCreate(&event_), "creating an event"); }

Event::~Event() {
  if (event_) cudaEventDestroy(event_);
}

void Event::record(const Stream& stream) const {
  check(cudaEventRecord(event_, stream.get()), "recording an event");
}

void Event::wait() const { check(cudaEventSynchronize(event_), "running a kernel"); }

double Event::seconds_since(const Event& before) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, before.event_, event_), "reading an event");
  return static_cast<double>(milliseconds) * 1e-3;
}

Graph::~Graph() {
  if (graph_) cudaGraphExecDestroy(graph_);
}

void Graph::start(const Stream& stream) const {
  check(cudaGraphLaunch(graph_, stream.get()), "starting a graph");
}

void Graph::begin(const Stream& stream) {
  check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "recording a graph");
}

void Graph::abandon(const Stream& stream) {
  cudaGraph_t recorded = nullptr;
  cudaStreamEndCapture(stream.get(), &recorded);
  if (recorded) cudaGraphDestroy(recorded);
  cudaGetLastError();
}

Graph Graph::end(const Stream& stream) {
  cudaGraph_t recorded = nullptr;
  check(cudaStreamEndCapture(stream.get(), &recorded), "recording a graph");
  Graph graph;
  const cudaError_t status = cudaGraphInstantiate(&graph.graph_, recorded, 0);
  cudaGraphDestroy(recorded);
  check(status, "making a graph");
  return graph;
}

Range::Range(const char* name) { nvtxRangePushA(name); }
Range::~Range() { nvtxRangePop(); }

void allow_shared(const void* kernel, size_t bytes) {
  if (bytes <= kEveryBlockHas) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "asking for shared memory");
}

#ifndef BDH_CUDA_EMULATED
void start_kernel(cudaStream_t stream, const Grid& grid, const void* kernel, void** arguments) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = grid.overlap ? 1 : 0;
  check(cudaLaunchKernelExC(&config, kernel, arguments), "starting a kernel");
}
#endif

}  // namespace bdh::cuda
