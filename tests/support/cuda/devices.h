// The devices that tests ask for, this thread's choice among them and its last error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/support/cuda/emulator.h"

namespace emulation {

constexpr size_t kSharedBytes = 48 * 1024;  // a block's, without cudaFuncSetAttribute
constexpr int kMostThreads = 1024;

/// Keeps an error for cudaGetLastError and gives it back.
cudaError_t remember(cudaError_t error);
/// What every call answers without a usable driver or a device; else cudaSuccess.
cudaError_t device_error();
/// This thread's device; only where device_error() is cudaSuccess.
Device current_device();
int current_device_number();
/// The most shared memory that a block on the device may ask for.
size_t most_shared_bytes(const Device& device);
uint64_t thread_order();

}  // namespace emulation
