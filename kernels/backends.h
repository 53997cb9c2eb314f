// The hardware that a device's name stands for.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace bdh {

/// "cpu"; "cuda" or "cuda:1"; "auto": the first GPU where this build and this machine can use one, and else
/// the CPU, which Backend::name then says. threads: of the CPU, 0 for the cores this process may use. Throws
/// Error(invalid_argument) for other names, Error(unsupported) for "cuda" in a build without it or for a GPU
/// or driver that it does not run on, Error(not_found) where there is no such GPU.
std::shared_ptr<Backend> make_backend(const std::string& device, int threads);

/// GPUs that "cuda:N" can name; 0 where this build or this machine can use none.
int usable_gpus();

}  // namespace bdh
