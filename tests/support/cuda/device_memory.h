// What was allocated on the emulated devices, and whose memory a pointer points to.
#pragma once

#include <cstddef>

#include "tests/support/cuda/emulator.h"

namespace emulation {

/// Whether so many bytes from there are of device memory; false also where they reach out of an allocation.
bool is_device_memory(const void* from, size_t bytes);
/// Whether they are pinned memory of the host.
bool is_pinned_memory(const void* from, size_t bytes);

/// A rectangle of bytes in memory: one line, where the height is 1.
struct Area {
  size_t pitch, width, height;
  size_t reach() const { return width == 0 || height == 0 ? 0 : pitch * (height - 1) + width; }
};
/// cudaErrorInvalidValue, unless the pointers lie where the kind says, the whole area through.
cudaError_t check_copy(const void* to, const Area& to_area, const void* from, const Area& from_area,
                       cudaMemcpyKind kind);

cudaError_t allocate_device(void** memory, size_t bytes);
cudaError_t free_device(void* memory);

}  // namespace emulation
