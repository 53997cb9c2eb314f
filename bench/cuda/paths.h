// Whole ways of reading on a GPU, through the public sessions: time on the wall, the likeliest next token
// chosen.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/case.h"
#include "bench/source.h"

namespace bdh::bench {

// The peer's part of a name; where it depends on the length read, the length follows.
constexpr const char *kPeerForward = "PyTorch forward", *kPeerCompiled = "PyTorch compiled",
                     *kPeerRecompute = "PyTorch recompute", *kPeerCached = "PyTorch cached",
                     *kPeerGraph = "PyTorch cached, graph", *kPeerHalf = "PyTorch cached, graph, half state";

std::string at_length(const char* peer, int64_t tokens);

/// One token of each of `batch` sequences that have read `position`. how: what is special about it, or "".
Case decode_case(const std::string& model, DType dtype, int64_t position, int64_t batch,
                 const std::string& how = "");
/// The whole of a prompt, in chunks.
Case prefill_case(const std::string& model, DType dtype, int64_t tokens, int64_t chunk,
                  const std::string& how = "");

/// A step of training on `sequences` of `tokens`: gradient, its norm, AdamW.
Case training_case(const std::string& model, DType dtype, int64_t sequences, int64_t tokens);

/// How decoding is measured.
struct DecodePlan {
  int64_t position, batch;
  bool draws = true;  // the GPU chooses the likeliest token; else its logits come to the host, which does
  int samples = 7;
  double seconds = 0.05;  // of a sample, about
};
/// Details: the sessions' bytes and how active the neurons were.
Result measure_decode(Subject& subject, const Case& of, const DecodePlan& plan);
/// Details: `memory_before` and `memory_after` the reading, bytes of the GPU in use.
Result measure_prefill(Subject& subject, const Case& of, int64_t tokens, int64_t chunk, int samples);
/// Details: `memory_before` and `memory_after` the steps, and the `nats` per token of the last one.
Result measure_training(Subject& subject, const Case& of, int64_t sequences, int64_t tokens, int samples);

}  // namespace bdh::bench
