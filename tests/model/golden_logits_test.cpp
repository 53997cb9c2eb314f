// Logits against PyTorch's, stored in tests/data/logits by tests/parity/logits_parity.py: every form, dtype,
// instruction set and number of threads. Knows the public API alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bdh/model/session.h"
#include "kernels/cpu/backend.h"
#include "tests/support/golden_logits.h"

namespace {

using bdh::all_golden;
using bdh::Golden;
using bdh::relative_difference;
using bdh::values;
using bdh::DType;
using bdh::Form;

constexpr float kFloat32Tolerance = 1e-5f;  // of the largest logit
constexpr float kHalfTolerance = 2e-3f;  // the golden weights are rounded alike, so this is arithmetic alone
constexpr size_t kThreadedTokens = 20;

struct Reading {
  const char* name;
  Form form;
  int64_t chunk;
};

constexpr Reading kReadings[] = {{"parallel", Form::parallel, 256},
                                 {"recurrent", Form::recurrent, 256},
                                 {"chunks of 1", Form::chunked, 1},
                                 {"chunks of 7", Form::chunked, 7},
                                 {"chunks of 64", Form::chunked, 64}};

std::vector<float> read_all(const std::shared_ptr<const bdh::Weights>& weights, const Golden& golden,
                            Form form, int64_t chunk) {
  bdh::ReadOptions options;
  options.form = form;
  options.chunk = chunk;
  return bdh::Session(weights).read_all(golden.tokens, options);
}

std::shared_ptr<const bdh::Weights> weights_of(const Golden& golden, DType dtype, const std::string& isa,
                                               int threads) {
  return std::make_shared<const bdh::Weights>(
      golden.config, golden.state_dict, bdh::cpu::make_backend({.threads = threads, .isa = isa}), dtype);
}

/// The logits of a parallel, a chunked and a recurrent reading, one after the other.
std::vector<float> threaded_logits(const Golden& golden, DType dtype, const std::string& isa, int threads) {
  const std::shared_ptr<const bdh::Weights> weights = weights_of(golden, dtype, isa, threads);
  std::vector<float> out;
  for (const Form form : {Form::parallel, Form::chunked, Form::recurrent}) {
    const std::vector<float> logits = read_all(weights, golden, form, 7);
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

void check_dtype(DType dtype, const char* answer, float tolerance) {
  const std::vector<Golden> golden_logits = all_golden();
  REQUIRE(golden_logits.size() >= 8);
  for (const Golden& golden : golden_logits) {
    const std::vector<float> want = values<float>(golden.answers.tensor(answer));
    for (const std::string& isa : bdh::cpu::available_isas()) {
      const std::shared_ptr<const bdh::Weights> weights = weights_of(golden, dtype, isa, 1);
      for (const Reading& reading : kReadings) {
        CAPTURE(golden.name);
        CAPTURE(isa);
        CAPTURE(reading.name);
        CHECK(relative_difference(read_all(weights, golden, reading.form, reading.chunk), want) <= tolerance);
      }
    }
  }
}

}  // namespace

TEST_CASE("float32 logits are PyTorch's in every form and instruction set") {
  check_dtype(DType::f32, "logits_f32", kFloat32Tolerance);
}

TEST_CASE("bfloat16 logits are PyTorch's with weights rounded alike") {
  check_dtype(DType::bf16, "logits_bf16", kHalfTolerance);
}

TEST_CASE("float16 logits are PyTorch's with weights rounded alike") {
  check_dtype(DType::f16, "logits_f16", kHalfTolerance);
}

TEST_CASE("forward is PyTorch's for several sequences at once") {
  const std::vector<Golden> golden_logits = all_golden();
  for (const Golden& golden : golden_logits) {
    CAPTURE(golden.name);
    const std::span<const int32_t> whole = golden.tokens;
    const std::vector<std::span<const int32_t>> sequences = {whole.first((whole.size() + 1) / 2), whole};
    const std::vector<float> got = bdh::forward(*weights_of(golden, DType::f32, "", 2), sequences);
    const std::vector<float> all = values<float>(golden.answers.tensor("logits_f32"));
    std::vector<float> want(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(sequences[0].size()) *
                                                           golden.config.vocab_size);
    want.insert(want.end(), all.begin(), all.end());
    CHECK(relative_difference(got, want) <= kFloat32Tolerance);
  }
}

TEST_CASE("logits have the same bits on any number of threads") {
  for (Golden golden : all_golden()) {
    golden.tokens.resize(std::min(golden.tokens.size(), kThreadedTokens));
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const std::string& isa : bdh::cpu::available_isas()) {
        CAPTURE(golden.name);
        CAPTURE(bdh::name_of(dtype));
        CAPTURE(isa);
        const std::vector<float> one = threaded_logits(golden, dtype, isa, 1);
        for (const int threads : {2, 3, 8}) {
          CAPTURE(threads);
          const std::vector<float> more = threaded_logits(golden, dtype, isa, threads);
          REQUIRE(more.size() == one.size());
          CHECK(std::memcmp(one.data(), more.data(), one.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}
