// Planes from GPU to GPU by NCCL, which is opened where it is installed and linked nowhere.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "kernels/cuda/state.h"
#include "kernels/training.h"

namespace bdh::cuda {

/// Machine and bus of the GPU; empty where there is no libnccl.so.2, this was built without nccl.h, or the
/// environment has BDH_NCCL=0.
std::string nccl_device(const Queue& queue);
/// Throws Error(io).
LinkKey new_nccl_key();
/// For planes of so many floats. Throws Error(io).
std::unique_ptr<PlaneLink> nccl_link(std::shared_ptr<const Queue> queue, std::shared_ptr<std::mutex> mutex,
                                     int64_t floats, const LinkKey& key, int rank, int size);

}  // namespace bdh::cuda
