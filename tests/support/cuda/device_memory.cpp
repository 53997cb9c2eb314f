// See device_memory.h. Memory has exactly the size asked for, so that the address sanitizer sees what reaches
// out of it, and is full of NaN.
#include "tests/support/cuda/device_memory.h"

#include <stdlib.h>

#include <cstring>
#include <map>
#include <mutex>

#include "tests/support/cuda/devices.h"

namespace emulation {
namespace {

enum class Place { device, pinned };

struct Allocation {
  size_t bytes;
  Place place;
  int device;
};

struct Memory {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> allocations;  // by address
  size_t device_bytes = 0;
  uint64_t device_allocations = 0;
  size_t successes_left = ~size_t{0};
};
Memory memory_state;

uintptr_t address_of(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

/// The allocation that the pointer lies in, or null; with its begin.
const Allocation* find(const void* pointer, uintptr_t& begin) {
  auto after = memory_state.allocations.upper_bound(address_of(pointer));
  if (after == memory_state.allocations.begin()) return nullptr;
  const auto& [start, allocation] = *--after;
  begin = start;
  return address_of(pointer) < start + allocation.bytes ? &allocation : nullptr;
}

bool lies_in(const void* from, size_t bytes, Place place) {
  const std::lock_guard lock(memory_state.mutex);
  uintptr_t begin = 0;
  const Allocation* const allocation = find(from, begin);
  return allocation != nullptr && allocation->place == place &&
         bytes <= begin + allocation->bytes - address_of(from);
}

/// Whether the pointer is into device memory, whatever comes after it.
bool points_to_device(const void* pointer) { return lies_in(pointer, 0, Place::device); }

size_t held_by(int device) {
  size_t bytes = 0;
  for (const auto& [start, allocation] : memory_state.allocations) {
    if (allocation.place == Place::device && allocation.device == device) bytes += allocation.bytes;
  }
  return bytes;
}

bool must_fail() {
  if (memory_state.successes_left == ~size_t{0}) return false;
  return memory_state.successes_left-- == 0;  // then ~0: once only
}

cudaError_t allocate(void** memory, size_t bytes, Place place) {
  *memory = nullptr;
  if (const cudaError_t error = device_error()) return error;
  if (bytes == 0) return cudaSuccess;
  const Device device = current_device();
  const std::lock_guard lock(memory_state.mutex);
  if (must_fail()) return cudaErrorMemoryAllocation;
  const size_t held = place == Place::device ? held_by(current_device_number()) : 0;
  if (place == Place::device && (held > device.free_memory || bytes > device.free_memory - held)) {
    return cudaErrorMemoryAllocation;
  }
  if (::posix_memalign(memory, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xFF, bytes);
  memory_state.allocations[address_of(*memory)] = {bytes, place, current_device_number()};
  if (place == Place::device) {
    memory_state.device_bytes += bytes;
    ++memory_state.device_allocations;
  }
  return cudaSuccess;
}

cudaError_t release(void* memory, Place place) {
  if (memory == nullptr) return cudaSuccess;
  const std::lock_guard lock(memory_state.mutex);
  const auto found = memory_state.allocations.find(address_of(memory));
  if (found == memory_state.allocations.end() || found->second.place != place) return cudaErrorInvalidValue;
  if (place == Place::device) memory_state.device_bytes -= found->second.bytes;
  memory_state.allocations.erase(found);
  ::free(memory);
  return cudaSuccess;
}

}  // namespace

bool is_device_memory(const void* from, size_t bytes) { return lies_in(from, bytes, Place::device); }
bool is_pinned_memory(const void* from, size_t bytes) { return lies_in(from, bytes, Place::pinned); }

cudaError_t check_copy(const void* to, const Area& to_area, const void* from, const Area& from_area,
                       cudaMemcpyKind kind) {
  if (to_area.reach() == 0) return cudaSuccess;
  const bool to_device = points_to_device(to), from_device = points_to_device(from);
  const bool into = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool out = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (kind != cudaMemcpyDefault && (into != to_device || out != from_device)) return cudaErrorInvalidValue;
  if (to_device && !is_device_memory(to, to_area.reach())) return cudaErrorInvalidValue;
  if (from_device && !is_device_memory(from, from_area.reach())) return cudaErrorInvalidValue;
  return to == nullptr || from == nullptr ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t allocate_device(void** memory, size_t bytes) { return allocate(memory, bytes, Place::device); }
cudaError_t free_device(void* memory) { return release(memory, Place::device); }

void fail_next_allocation(size_t successes) {
  const std::lock_guard lock(memory_state.mutex);
  memory_state.successes_left = successes;
}

uint64_t allocations() {
  const std::lock_guard lock(memory_state.mutex);
  return memory_state.device_allocations;
}

size_t bytes_allocated() {
  const std::lock_guard lock(memory_state.mutex);
  return memory_state.device_bytes;
}

}  // namespace emulation

using emulation::remember;

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (const cudaError_t error = emulation::device_error()) return remember(error);
  const emulation::Device device = emulation::current_device();
  const std::lock_guard lock(emulation::memory_state.mutex);
  const size_t held = emulation::held_by(emulation::current_device_number());
  *free = device.free_memory > held ? device.free_memory - held : 0;
  *total = device.total_memory;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  return remember(emulation::allocate(memory, bytes, emulation::Place::pinned));
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return cudaMallocHost(memory, bytes); }

cudaError_t cudaFreeHost(void* memory) {
  return remember(emulation::release(memory, emulation::Place::pinned));
}
