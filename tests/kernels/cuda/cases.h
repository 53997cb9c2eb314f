// A decode and a prefill put together by hand, every buffer poisoned: what a test of one kernel fills with
// its inputs.
#pragma once

#include <vector>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/prefill.h"
#include "tests/kernels/cuda/reference.h"

namespace bdh::test {

/// Random states of all layers, (L, H*N, D).
struct CaseState {
  CaseState(const KernelModel& model, uint64_t seed);
  /// As they are on the GPU now.
  Numbers now(const KernelModel& model) const;
  Numbers before;
  cuda::DeviceMemory memory;
};

struct DecodeCase {
  /// One sequence at each position.
  DecodeCase(const KernelModel& of, const std::vector<int64_t>& positions);
  /// Everything as at first, NaN where nothing was given.
  void reset();

  const KernelModel& model;
  int count;
  std::vector<cuda::Sequence> sequences;
  std::vector<CaseState> states;
  Numbers x;  // (B, D)
  cuda::DeviceMemory memory, arrived;
  cuda::DecodeBuffers buffers;
  cuda::Stream stream;
};

/// Tokens of one sequence.
struct CaseSegment {
  int32_t count;
  int64_t position;
  bool keeps;  // has a state
};

struct PrefillCase {
  PrefillCase(const KernelModel& of, const std::vector<CaseSegment>& given, cuda::Mma mma);
  void reset();

  const KernelModel& model;
  cuda::PrefillPlan plan;
  std::vector<CaseState> states;  // of every segment, whether it has one or not
  Numbers x;                      // (R, D)
  cuda::DeviceMemory memory, rows, segments, tiles, counts;
  cuda::PrefillBuffers buffers;
  cuda::Stream stream;
};

/// What prefill's products can be made with here.
std::vector<cuda::Mma> mmas();

/// The parts of one head in an array (R, H, columns), and back.
Numbers with_columns(const KernelModel& model, const Numbers& rows, int columns);
Numbers without_columns(const KernelModel& model, const Numbers& rows, int columns);

}  // namespace bdh::test
