// The CUDA backend. Knows one GPU and the kernels.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace bdh::cuda {

/// Everything runs on one stream of GPU `index`, in order; a read returns when its logits are there.
/// Throws as require_device (devices.h).
std::shared_ptr<Backend> make_backend(int index = 0);

}  // namespace bdh::cuda
