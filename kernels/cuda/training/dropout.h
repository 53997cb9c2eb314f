// Dropout (DropoutNumbers): device code.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

struct Philox {
  uint32_t word[4];
};

/// Philox4x32-10.
__device__ inline Philox philox(Philox counter, uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{counter.word[0]} * 0xD2511F53u, b = uint64_t{counter.word[2]} * 0xCD9E8D57u;
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// Eight neurons of a row, from `neuron` on, which is a multiple of eight.
__device__ inline void drop(const TrainingPass& p, int row, int head, int neuron, float (&v)[kVector]) {
  static_assert(kVector == 8);
  const auto counter =
      static_cast<uint32_t>(int64_t{p.first_head + head} * (p.columns / kVector) + neuron / kVector);
  const Philox random =
      philox({{counter, static_cast<uint32_t>(p.token_of(row)),
               static_cast<uint32_t>(p.sequence + row / p.length), static_cast<uint32_t>(p.layer)}},
             p.dropout.key[0], p.dropout.key[1]);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const uint32_t word = random.word[i / 2], number = i % 2 == 0 ? word & 0xffff : word >> 16;
    v[i] = number < p.dropout.threshold ? 0.0f : v[i] * p.dropout.scale;
  }
}

}  // namespace bdh::cuda
