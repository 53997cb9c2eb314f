// What a sequence remembers, as a file keeps it: the same for every backend.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bdh/base/tensor.h"

namespace bdh {

struct Dimensions;

/// The last tokens of a text, P of them, oldest first: what each left, of which S may not hold all yet. None:
/// `begin` has no data.
struct KeptTokens {
  Tensor begin;   // (L, P + 1) int64: token p left [begin[l][p], begin[l][p + 1]) of the next two in layer l
  Tensor neuron;  // (count) int32, in [0, H*N), rising for each token
  Tensor r;       // (count) float32: r of those neurons, as read
  Tensor x;       // (L, P, D) float32

  int64_t count() const { return begin.data ? begin.shape[1] - 1 : 0; }
};

struct SavedState {
  int64_t position = 0;  // tokens read
  Tensor s;              // (L, H, N, D) float32 or bfloat16; no data: zero
  /// (H, N) int64: those rows of s hold the tokens before that position, each weighed as of there; the rest
  /// are among the kept tokens. No data: s holds all tokens. Without s, whose rows would hold
  /// none, it says which of the kept tokens were not pending in a window.
  Tensor held = {};
  /// Where s holds all tokens and there is a horizon h: s is kept as exp((position - base) / h) S.
  int64_t base = 0;
  /// The kept tokens are all since this position, before which nothing was read; -1: not said.
  int64_t first = -1;
  KeptTokens tokens = {};
};

/// Throws Error(bad_file) for shapes, dtypes and numbers that cannot be: what passes is safe to read.
void check(const SavedState& saved, const Dimensions& dims);

/// S (L, H, N, D) float32 with every token, weighed as of the position. horizons: for each head, or none.
Tensor folded(const SavedState& saved, const Dimensions& dims, std::span<const float> horizons);

/// The tokens of several, one after the other.
KeptTokens joined(const std::vector<KeptTokens>& parts);
/// Bytes of all its tensors.
size_t bytes_of(const SavedState& saved);

}  // namespace bdh
