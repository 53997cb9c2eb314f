// The emulator's devices, memory, streams and graphs, as tests of the CUDA backend rely on them.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/cuda/emulator.h"

namespace {

struct Emulator {
  Emulator() { emulation::reset(); }
  ~Emulator() { emulation::reset(); }
};

/// Device memory for one test.
struct Floats {
  explicit Floats(size_t count) { REQUIRE(cudaMalloc(&data, count * sizeof(float)) == cudaSuccess); }
  ~Floats() { cudaFree(data); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float* data = nullptr;
};

struct Stream {
  Stream() { REQUIRE(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking) == cudaSuccess); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle = nullptr;
};

void add(float* to, float value, cudaStream_t stream) {
  emulation::launch("add", nullptr, 1, 4, 0, stream, [=] { to[threadIdx.x] += value; });
}

std::vector<float> read(const float* from, size_t count = 4) {
  std::vector<float> values(count);
  REQUIRE(cudaMemcpy(values.data(), from, count * sizeof(float), cudaMemcpyDeviceToHost) == cudaSuccess);
  return values;
}

}  // namespace

TEST_CASE("emulated memory: NaN at first, counted, and freed once") {
  const Emulator emulator;
  const size_t held = emulation::bytes_allocated();
  const uint64_t made = emulation::allocations();
  float* memory = nullptr;
  REQUIRE(cudaMalloc(&memory, 1001 * sizeof(float)) == cudaSuccess);
  CHECK(reinterpret_cast<uintptr_t>(memory) % 256 == 0);
  CHECK(std::isnan(read(memory, 1001)[1000]));
  CHECK(emulation::bytes_allocated() == held + 4004);
  CHECK(emulation::allocations() == made + 1);
  CHECK(cudaFree(memory + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(memory) == cudaSuccess);
  CHECK(cudaFree(memory) == cudaErrorInvalidValue);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(emulation::bytes_allocated() == held);
}

TEST_CASE("emulated memory: copies go where their kind says, and stay within allocations") {
  const Emulator emulator;
  const Floats device(8);
  float host[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(cudaMemcpy(device.data, host, 32, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaMemcpy(host, device.data + 1, 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(host[0] == 2);
  CHECK(cudaMemcpy(host, host + 4, 4, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(device.data, device.data + 4, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(device.data + 1, host, 32, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, device.data + 1, 32, cudaMemcpyDefault) == cudaErrorInvalidValue);
  CHECK(cudaMemset(host, 0, 4) == cudaErrorInvalidValue);
  CHECK(cudaMemset(device.data, 0, 33) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy2DAsync(device.data, 16, host, 8, 8, 2, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(read(device.data, 8) == std::vector<float>{2, 2, 3, 4, 3, 4, 7, 8});
  CHECK(cudaMemcpy2DAsync(device.data, 16, host, 8, 8, 3, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy2DAsync(device.data, 4, host, 8, 8, 1, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidPitchValue);
}

TEST_CASE("emulated memory: runs out, and fails when told to") {
  const Emulator emulator;
  const size_t held = emulation::bytes_allocated();
  emulation::set_devices({{.total_memory = 4096, .free_memory = held + 2048}});
  void* first = nullptr;
  void* second = nullptr;
  REQUIRE(cudaMalloc(&first, 1500) == cudaSuccess);
  CHECK(cudaMalloc(&second, 549) == cudaErrorMemoryAllocation);
  CHECK(second == nullptr);
  size_t free = 0, total = 0;
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 548);
  CHECK(total == 4096);
  CHECK(cudaMalloc(&second, 548) == cudaSuccess);
  cudaFree(first);
  cudaFree(second);
  emulation::fail_next_allocation(1);
  CHECK(cudaMalloc(&first, 8) == cudaSuccess);
  CHECK(cudaMallocHost(&second, 8) == cudaErrorMemoryAllocation);
  CHECK(cudaMallocHost(&second, 8) == cudaSuccess);
  CHECK(cudaFree(second) == cudaErrorInvalidValue);
  cudaFree(first);
  cudaFreeHost(second);
}

TEST_CASE("emulated devices: none, no driver, an old driver, and what they are") {
  const Emulator emulator;
  int number = 7;
  void* memory = nullptr;
  emulation::set_devices({});
  CHECK(cudaGetDeviceCount(&number) == cudaErrorNoDevice);
  CHECK(number == 0);
  CHECK(cudaMalloc(&memory, 8) == cudaErrorNoDevice);
  emulation::reset();
  emulation::set_driver_version(0);
  CHECK(cudaGetDeviceCount(&number) == cudaErrorInsufficientDriver);
  CHECK(cudaDriverGetVersion(&number) == cudaSuccess);
  CHECK(number == 0);
  emulation::set_driver_version(11080);
  CHECK(cudaSetDevice(0) == cudaErrorInsufficientDriver);
  CHECK(cudaMalloc(&memory, 8) == cudaErrorInsufficientDriver);
  emulation::reset();
  emulation::set_devices({{.name = "first"}, {.name = "second", .capability = 86, .multiprocessors = 84}});
  CHECK(cudaGetDeviceCount(&number) == cudaSuccess);
  CHECK(number == 2);
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  CHECK(cudaGetDevice(&number) == cudaSuccess);
  CHECK(number == 1);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 1) == cudaSuccess);
  CHECK(std::string(properties.name) == "second");
  CHECK(properties.major == 8);
  CHECK(properties.minor == 6);
  CHECK(properties.sharedMemPerBlockOptin == 99 * 1024);
  CHECK(cudaDeviceGetAttribute(&number, cudaDevAttrMultiProcessorCount, 1) == cudaSuccess);
  CHECK(number == 84);
}

TEST_CASE("emulated graphs: what a stream captures runs at every launch, with the values of the capture") {
  const Emulator emulator;
  const Floats memory(4);
  const Stream stream;
  cudaMemset(memory.data, 0, 16);
  const uint64_t launches = emulation::launches();
  REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  float value = 2;
  add(memory.data, value, stream.handle);
  value = 100;
  cudaMemcpyAsync(memory.data, memory.data + 1, 4, cudaMemcpyDeviceToDevice, stream.handle);
  add(memory.data, 1, stream.handle);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
  CHECK(emulation::launches() == launches);
  CHECK(read(memory.data) == std::vector<float>{0, 0, 0, 0});
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  cudaGraphDestroy(graph);
  for (int i = 0; i < 3; ++i) CHECK(cudaGraphLaunch(executable, stream.handle) == cudaSuccess);
  CHECK(emulation::launches() == launches + 6);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaSuccess);
  CHECK(read(memory.data) == std::vector<float>{9, 9, 9, 9});
  cudaGraphExecDestroy(executable);
}

TEST_CASE("emulated graphs: a capture is spoiled by what waits or allocates") {
  const Emulator emulator;
  const Stream stream;
  const auto result_after = [&](cudaStreamCaptureMode mode, auto call) {
    REQUIRE(cudaStreamBeginCapture(stream.handle, mode) == cudaSuccess);
    CHECK(call() == cudaErrorStreamCaptureUnsupported);
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream.handle, &graph);
    CHECK(graph == nullptr);
    return error;
  };
  void* memory = nullptr;
  const auto allocate = [&] { return cudaMalloc(&memory, 8); };
  const auto wait = [&] { return cudaStreamSynchronize(stream.handle); };
  CHECK(result_after(cudaStreamCaptureModeGlobal, allocate) == cudaErrorStreamCaptureInvalidated);
  CHECK(result_after(cudaStreamCaptureModeThreadLocal, allocate) == cudaErrorStreamCaptureInvalidated);
  CHECK(result_after(cudaStreamCaptureModeRelaxed, wait) == cudaErrorStreamCaptureInvalidated);
  CHECK(result_after(cudaStreamCaptureModeGlobal, cudaDeviceSynchronize) ==
        cudaErrorStreamCaptureInvalidated);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaErrorIllegalState);
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
}

TEST_CASE("emulated graphs: another stream joins a capture through an event") {
  const Emulator emulator;
  const Floats memory(4);
  const Stream stream, side;
  cudaMemset(memory.data, 0, 16);
  cudaEvent_t fork = nullptr, join = nullptr;
  cudaEventCreateWithFlags(&fork, cudaEventDisableTiming);
  cudaEventCreateWithFlags(&join, cudaEventDisableTiming);
  REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  cudaEventRecord(fork, stream.handle);
  cudaStreamWaitEvent(side.handle, fork);
  add(memory.data, 1, side.handle);
  cudaEventRecord(join, side.handle);
  cudaStreamWaitEvent(stream.handle, join);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
  CHECK(read(memory.data)[0] == 0);
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphLaunch(executable, stream.handle);
  CHECK(read(memory.data)[0] == 1);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
}

TEST_CASE("emulated streams: when lazy, work waits until somebody waits for it") {
  const Emulator emulator;
  const Floats memory(4);
  const Stream stream;
  cudaMemset(memory.data, 0, 16);
  emulation::set_streams_lazy(true);
  add(memory.data, 1, stream.handle);
  CHECK(read(memory.data)[0] == 0);  // the default stream does not wait for this one
  CHECK(cudaStreamQuery(stream.handle) == cudaErrorNotReady);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaSuccess);
  CHECK(read(memory.data)[0] == 1);

  std::vector<float> pageable(4, 5.0f);
  float* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, 16) == cudaSuccess);
  for (int i = 0; i < 4; ++i) pinned[i] = 6;
  cudaMemcpyAsync(memory.data, pageable.data(), 8, cudaMemcpyHostToDevice, stream.handle);
  cudaMemcpyAsync(memory.data + 2, pinned, 8, cudaMemcpyHostToDevice, stream.handle);
  pageable.assign(4, 0.0f);
  pinned[0] = pinned[1] = 7;  // too overlap: the copy has not been made
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, stream.handle);
  CHECK(cudaEventQuery(event) == cudaErrorNotReady);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(read(memory.data) == std::vector<float>{5, 5, 7, 7});
  float milliseconds = -1;
  CHECK(cudaEventElapsedTime(&milliseconds, event, event) == cudaSuccess);
  CHECK(milliseconds == 0);
  cudaEventDestroy(event);
  cudaFreeHost(pinned);

  emulation::launch("hangs", nullptr, 1, 32, 0, stream.handle, [] {
    if (threadIdx.x == 0) __syncwarp();
    if (threadIdx.x == 1) __syncthreads();
  });
  CHECK_THROWS_AS(cudaStreamSynchronize(stream.handle), std::logic_error);
}

TEST_CASE("emulated streams: a kernel that starts early sees what was before it only if it waits") {
  const Emulator emulator;
  const Stream stream;
  for (const bool lazy : {false, true}) {
    for (const bool waits : {true, false}) {
      const Floats from(4), to(8);
      REQUIRE(cudaMemset(from.data, 0, 4 * sizeof(float)) == cudaSuccess);
      emulation::set_streams_lazy(lazy);
      add(from.data, 1, stream.handle);
      const auto copy = [=, &from, &to] {
        if (waits) cudaGridDependencySynchronize();
        __syncthreads();
        to.data[blockIdx.x * 4 + threadIdx.x] = from.data[threadIdx.x];
      };
      emulation::launch(
          "add", nullptr, 1, 4, 0, stream.handle,
          [&] {
            cudaGridDependencySynchronize();
            from.data[threadIdx.x] += 1;
          },
          true);
      emulation::launch("copy", nullptr, 2, 4, 0, stream.handle, copy, true);
      REQUIRE(cudaStreamSynchronize(stream.handle) == cudaSuccess);
      const std::vector<float> got = read(to.data, 8);
      CHECK(got[0] == (waits || !lazy ? 2 : 0));
      CHECK(got[7] == 2);
    }
  }
}

TEST_CASE("emulated streams: one that was destroyed is refused") {
  const Emulator emulator;
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK(emulation::launch("late", nullptr, 1, 1, 0, stream, [] {}) == cudaErrorInvalidResourceHandle);
  CHECK(std::string(cudaGetErrorName(cudaGetLastError())) == "cudaErrorInvalidResourceHandle");
}
