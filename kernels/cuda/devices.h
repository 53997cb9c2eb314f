// Which GPUs there are and whether this build runs on them. Starts nothing.
#pragma once

#include <string>

namespace bdh::cuda {

/// Why no GPU can be used, in one line with the remedy; empty when device 0 can. A machine without a driver
/// is no error.
std::string why_unusable();

/// At least 1. Throws Error(not_found) where there is no driver or no GPU, Error(unsupported) for a driver
/// older than this build's CUDA.
int count_devices();

/// Throws Error(not_found) where there is no driver, no GPU or not so many of them, and Error(unsupported)
/// for a driver older than this build's CUDA or a GPU it has no code for.
void require_device(int index);

/// Whether the GPU and this build have wgmma. Throws as require_device.
bool has_warpgroups(int index);

/// Whether a kernel can start while the one before it ends. Throws as require_device.
bool can_overlap(int index);

/// "NVIDIA H100 80GB HBM3". Throws as require_device.
std::string device_name(int index);

}  // namespace bdh::cuda
