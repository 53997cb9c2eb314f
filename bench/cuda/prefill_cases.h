// The kernels of a chunk, as families: ours, and the same work by cuBLASLt with plain kernels between its
// products and without leaving out what is not causal.
#pragma once

#include <memory>
#include <vector>

#include "bench/cuda/blas.h"
#include "bench/cuda/model.h"
#include "bench/cuda/timer.h"
#include "kernels/cuda/prefill.h"

namespace bdh::bench {

constexpr const char* kPrefillKernels[] = {"encode_prefill", "attention_prefill", "attention_rows",
                                           "gate_prefill",   "project_logits",    "embed_prefill"};
Case prefill_kernel_case(const std::string& kernel, const std::string& model, size_t segments, int tokens,
                         const std::string& dtype);

/// The next `tokens` tokens of each of `segments` sequences that have read `position`, in several layers.
class PrefillInputs {
 public:
  PrefillInputs(const GpuModel& model, Blas& blas, int segments, int tokens, int64_t position);

  /// The families refer to the inputs, which must outlive them. Where every sequence reads one token, they
  /// are what a batch of decoding takes.
  std::vector<Family> families(const std::string& dtype) const;

 private:
  struct Set {
    cuda::DeviceMemory memory, saved_x, saved_operand, saved_n;
    cuda::PrefillBuffers buffers;
    int layer = 0;
  };
  void plan(int64_t position);
  void fill(Set& set, const Set* before);
  void restore() const;
  void restore_n() const;
  Family family(const std::string& name, const std::string& dtype, const Work& work) const;
  bool has_blas() const;
  bool single_rows() const { return sets_.front().buffers.single_rows; }
  Family encode_family(const std::string& dtype) const;
  Family attention_family(const std::string& dtype) const;
  Family gate_family(const std::string& dtype) const;
  Family embed_family(const std::string& dtype) const;
  Family logits_family(const std::string& dtype) const;
  using Queue = std::function<void(const cuda::PrefillBuffers& buffers, int layer)>;
  void add_mmas(Family& family, const Queue& queue) const;
  void add_blas(Family& family, std::function<void(const Set&)> queue) const;
  const Set& set_of(int iteration) const;
  int64_t compared_rows() const;
  PrefillShape shape() const;
  void attend(const cuda::PrefillBuffers& buffers, int layer) const;
  void count(const Set& set);

  // The variants by cuBLASLt.
  void encode_by_blas(const Set& set) const;
  void attention_by_blas(const Set& set) const;
  void segment_by_blas(const Set& set, const cuda::PrefillSegment& segment) const;
  void gate_by_blas(const Set& set) const;
  void logits_by_blas(const Set& set) const;

  size_t x_bytes() const;
  size_t operand_bytes(const Set& set) const;
  size_t n_bytes(const Set& set) const;
  size_t layer_s_bytes() const;

  const GpuModel& model_;
  Blas& blas_;
  int tokens_;
  States states_;
  cuda::PrefillPlan plan_;
  cuda::DeviceMemory rows_, segments_, tiles_;
  std::vector<Set> sets_;
  std::vector<Densities> active_;  // of each set
  cuda::DeviceMemory counts_;      // of every layer
  cuda::DeviceMemory saved_s_;     // every segment's S of the first layer
  cuda::DeviceMemory v_, half_s_,
      mixed_;  // what the products of the cuBLAS variants leave for the next kernel
  cuda::DeviceMemory logits_;
};

}  // namespace bdh::bench
