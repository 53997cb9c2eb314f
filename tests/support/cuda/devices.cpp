// See devices.h. What devices of a compute capability have follows CUDA's table of them.
#include "tests/support/cuda/devices.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>

namespace emulation {
namespace {

struct Settings {
  std::mutex mutex;
  std::vector<Device> devices = {Device{}};
  int driver_version = CUDART_VERSION;
};
Settings settings;
std::atomic<uint64_t> order{0};
thread_local int chosen = 0;
thread_local cudaError_t last_error = cudaSuccess;

int device_count() {
  const std::lock_guard lock(settings.mutex);
  return static_cast<int>(settings.devices.size());
}

cudaError_t driver_error() {
  const std::lock_guard lock(settings.mutex);
  return settings.driver_version / 1000 < CUDART_VERSION / 1000 ? cudaErrorInsufficientDriver : cudaSuccess;
}

/// The device with that number, or why there is none.
cudaError_t find(int number, Device& device) {
  if (const cudaError_t error = device_error()) return error;
  const std::lock_guard lock(settings.mutex);
  if (number < 0 || number >= static_cast<int>(settings.devices.size())) return cudaErrorInvalidDevice;
  device = settings.devices[static_cast<size_t>(number)];
  return cudaSuccess;
}

size_t shared_bytes_of_multiprocessor(const Device& device) {
  switch (device.capability) {
    case 80:
    case 87:
      return 164 * 1024;
    case 86:
    case 89:
    case 120:
      return 100 * 1024;
    default:
      return 228 * 1024;
  }
}

int threads_of_multiprocessor(const Device& device) {
  return device.capability == 86 || device.capability == 89 ? 1536 : 2048;
}

}  // namespace

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t device_error() {
  if (const cudaError_t error = driver_error()) return error;
  return device_count() == 0 ? cudaErrorNoDevice : cudaSuccess;
}

Device current_device() {
  Device device;
  find(chosen, device);
  return device;
}

int current_device_number() { return chosen; }

size_t most_shared_bytes(const Device& device) { return shared_bytes_of_multiprocessor(device) - 1024; }

uint64_t thread_order() { return order; }

void set_devices(std::vector<Device> devices) {
  const std::lock_guard lock(settings.mutex);
  settings.devices = std::move(devices);
}

void set_driver_version(int version) {
  const std::lock_guard lock(settings.mutex);
  settings.driver_version = version;
}

void set_thread_order(uint64_t seed) { order = seed; }

void reset() {
  set_devices({Device{}});
  set_driver_version(CUDART_VERSION);
  set_thread_order(0);
  set_streams_lazy(false);
  fail_next_allocation(~size_t{0});
  fail_next_launch(~size_t{0});
  chosen = 0;
  last_error = cudaSuccess;
}

}  // namespace emulation

using emulation::Device;
using emulation::remember;

cudaError_t cudaGetLastError() { return std::exchange(emulation::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return emulation::last_error; }

cudaError_t cudaDriverGetVersion(int* version) {
  const std::lock_guard lock(emulation::settings.mutex);
  *version = emulation::settings.driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  *count = emulation::device_count();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int number) {
  Device device;
  if (const cudaError_t error = emulation::find(number, device)) return remember(error);
  emulation::chosen = number;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* number) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  *number = emulation::chosen;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
  Device device;
  if (const cudaError_t error = emulation::find(number, device)) return remember(error);
  *properties = {};
  std::strncpy(properties->name, device.name.c_str(), sizeof properties->name - 1);
  properties->totalGlobalMem = device.total_memory;
  properties->sharedMemPerBlock = emulation::kSharedBytes;
  properties->regsPerBlock = 65536;
  properties->warpSize = warpSize;
  properties->maxThreadsPerBlock = emulation::kMostThreads;
  properties->major = device.capability / 10;
  properties->minor = device.capability % 10;
  properties->multiProcessorCount = device.multiprocessors;
  properties->l2CacheSize = 50 << 20;
  properties->maxThreadsPerMultiProcessor = emulation::threads_of_multiprocessor(device);
  properties->sharedMemPerMultiprocessor = emulation::shared_bytes_of_multiprocessor(device);
  properties->regsPerMultiprocessor = 65536;
  properties->sharedMemPerBlockOptin = emulation::most_shared_bytes(device);
  properties->cooperativeLaunch = 0;  // blocks run one after the other
  properties->memoryBusWidth = 5120;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* bus, int length, int number) {
  std::snprintf(bus, static_cast<size_t>(length), "0000:%02x:00.0", number);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, number)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      return cudaSuccess;
    case cudaDevAttrClockRate:
      *value = 1'980'000;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrMemoryClockRate:
      *value = 2'619'000;
      return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = properties.memoryBusWidth;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = properties.cooperativeLaunch;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
  }
  return remember(cudaErrorInvalidValue);
}

const char* cudaGetErrorName(cudaError_t error) {
#define BDH_NAME(name) \
  case name:           \
    return #name
  switch (error) {
    BDH_NAME(cudaSuccess);
    BDH_NAME(cudaErrorInvalidValue);
    BDH_NAME(cudaErrorMemoryAllocation);
    BDH_NAME(cudaErrorInvalidConfiguration);
    BDH_NAME(cudaErrorInvalidPitchValue);
    BDH_NAME(cudaErrorInvalidMemcpyDirection);
    BDH_NAME(cudaErrorInsufficientDriver);
    BDH_NAME(cudaErrorNoDevice);
    BDH_NAME(cudaErrorInvalidDevice);
    BDH_NAME(cudaErrorNoKernelImageForDevice);
    BDH_NAME(cudaErrorInvalidResourceHandle);
    BDH_NAME(cudaErrorIllegalState);
    BDH_NAME(cudaErrorNotReady);
    BDH_NAME(cudaErrorIllegalAddress);
    BDH_NAME(cudaErrorLaunchOutOfResources);
    BDH_NAME(cudaErrorLaunchFailure);
    BDH_NAME(cudaErrorNotSupported);
    BDH_NAME(cudaErrorStreamCaptureUnsupported);
    BDH_NAME(cudaErrorStreamCaptureInvalidated);
    BDH_NAME(cudaErrorStreamCaptureUnmatched);
    BDH_NAME(cudaErrorStreamCaptureUnjoined);
    BDH_NAME(cudaErrorStreamCaptureImplicit);
    BDH_NAME(cudaErrorCapturedEvent);
    BDH_NAME(cudaErrorStreamCaptureWrongThread);
    BDH_NAME(cudaErrorUnknown);
  }
#undef BDH_NAME
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    default:
      return cudaGetErrorName(error);
  }
}
