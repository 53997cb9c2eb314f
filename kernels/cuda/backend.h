// The CUDA backend.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// From so many sequences on, a batch of decoding is read by the kernels of prefill, as a chunk of single
/// rows: E is read once for all of them and on the tensor cores, and what is left out of Ev and the decoder
/// for one sequence is needed by another.
constexpr int kDenseBatch = 8;

/// From so many sequences on, those below kDenseBatch share lists of active neurons: rows of Ev and the
/// decoder are read once for up to four of them.
constexpr int kSharedBatch = 4;

struct Options {
  int dense_batch = kDenseBatch;
  int shared_batch = kSharedBatch;
  /// Of prefill's products. Throws Error(unsupported) where the GPU or this build does not have it.
  Mma mma = Mma::warp;
  /// Decode's kernels start while those before them end. Throws Error(unsupported) where the GPU cannot.
  bool overlap = false;
  /// Of what training treats together, rows of several sequences and heads, about.
  int64_t training_bytes = int64_t{1} << 30;
};

/// Everything runs on one stream of GPU `index`, in order; a read returns when its logits are there.
/// Throws as require_device (devices.h).
std::shared_ptr<Backend> make_backend(int index = 0, const Options& options = {});

}  // namespace bdh::cuda
