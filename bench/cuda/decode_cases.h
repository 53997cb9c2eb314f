// The kernels of one token a sequence, as families: the fast ones, and the simple layer beside both of them
// together.
#pragma once

#include <memory>
#include <vector>

#include "bench/cuda/model.h"
#include "bench/cuda/timer.h"
#include "kernels/cuda/decode.h"

namespace bdh::bench {

constexpr const char* kDecodeKernels[] = {"attention_decode",
                                          "gate_decode",
                                          "layer_decode",
                                          "embed_decode",
                                          "project_logits",
                                          "draw_tokens, greedy",
                                          "draw_tokens, top_k 50, top_p 0.95"};
Case decode_kernel_case(const std::string& kernel, const std::string& model, int batch,
                        const std::string& dtype);

/// A token of each of `batch` sequences in every layer, each layer with its own buffers: what that layer gets
/// and gives in a real step. Sequences share the text before the token, not the token.
class DecodeInputs {
 public:
  /// past_cache: bytes that the states in use together must exceed, so that none is found in a cache.
  DecodeInputs(const GpuModel& model, int batch, int64_t position, int64_t past_cache);

  /// The families refer to the inputs, which must outlive them.
  std::vector<Family> families(const std::string& dtype) const;
  /// Of each set: how active the layer's neurons were.
  const std::vector<LayerActivity>& activity() const { return activity_; }

 private:
  struct Set {
    cuda::DeviceMemory memory, arrived, own_x, saved_x;
    cuda::DecodeBuffers buffers;  // x is the layer's input and stays so
    cuda::DecodeBuffers gated;    // the same, with an x of its own that the layer's end may write
    int layer = 0;
  };
  void fill(Set& set, const Set* before, const States& states, int64_t position);
  LayerActivity count(const Set& set) const;
  void restore_x() const;
  void restore() const;
  std::vector<float> x_of(int sequences) const;
  Family layer_family(const std::string& dtype) const;
  size_t x_bytes() const;

  const GpuModel& model_;
  int batch_;
  std::vector<States> states_;
  std::vector<Set> sets_;
  std::vector<LayerActivity> activity_;
  cuda::DeviceMemory greedy_, drawn_;  // requests for every sequence
  cuda::DeviceMemory saved_s_;         // the first sequence's S of the first set's layer
};

}  // namespace bdh::bench
