// Logits against PyTorch's, stored in tests/data/logits by tests/parity/logits_parity.py: every form, dtype,
// variant of the backend and number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/golden_logits.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"

namespace {

using bdh::DType;
using bdh::Form;
using bdh::test::all_golden;
using bdh::test::Golden;
using bdh::test::relative_difference;
using bdh::test::values;
using bdh::test::WeightsPointer;

constexpr float kFloat32Tolerance = 1e-5f;  // of the largest logit
const size_t kThreadedTokens = bdh::test::unless_slow<size_t>(20, 2);

struct Reading {
  const char* name;
  Form form;
  int64_t chunk;
};

constexpr Reading kReadings[] = {{"parallel", Form::parallel, 256},
                                 {"recurrent", Form::recurrent, 256},
                                 {"chunks of 7", Form::chunked, 7},
                                 {"chunks of 1", Form::chunked, 1},
                                 {"chunks of 64", Form::chunked, 64}};

const size_t kUsed = bdh::test::unless_slow(std::size(kReadings), size_t{3});

// The first tokens of a text, and as many rows of an answer.
size_t count_of(const Golden& golden) {
  return std::min(golden.tokens.size(), bdh::test::unless_slow<size_t>(SIZE_MAX, 9));
}

std::vector<float> wanted(const Golden& golden, const char* answer) {
  std::vector<float> rows = values<float>(golden.answers.tensor(answer));
  rows.resize(count_of(golden) * static_cast<size_t>(golden.config.vocab_size));
  return rows;
}

std::vector<float> read_all(const WeightsPointer& weights, const Golden& golden, Form form, int64_t chunk) {
  return bdh::Session(weights).read_all(std::span(golden.tokens).first(count_of(golden)),
                                        bdh::test::in_form(form, chunk));
}

WeightsPointer weights_of(const Golden& golden, DType dtype, const std::string& variant, int threads) {
  return std::make_shared<const bdh::Weights>(golden.config, golden.state_dict,
                                              bdh::test::backend(threads, variant), dtype);
}

/// The logits of a parallel, a chunked and a recurrent reading, one after the other.
std::vector<float> threaded_logits(const Golden& golden, DType dtype, const std::string& variant,
                                   int threads) {
  const WeightsPointer weights = weights_of(golden, dtype, variant, threads);
  std::vector<float> out;
  for (const Form form : {Form::parallel, Form::chunked, Form::recurrent})
    bdh::test::append(out, read_all(weights, golden, form, 7));
  return out;
}

void check_dtype(DType dtype, const char* answer, float tolerance) {
  const std::vector<Golden> golden_logits = all_golden();
  REQUIRE(golden_logits.size() >= 8);
  for (const Golden& golden : golden_logits) {
    const std::vector<float> want = wanted(golden, answer);
    for (const std::string& variant : bdh::test::variants()) {
      const WeightsPointer weights = weights_of(golden, dtype, variant, 1);
      for (const Reading& reading : std::span(kReadings).first(kUsed)) {
        CAPTURE(golden.name);
        CAPTURE(variant);
        CAPTURE(reading.name);
        CHECK(relative_difference(read_all(weights, golden, reading.form, reading.chunk), want) <= tolerance);
      }
    }
  }
}

}  // namespace

TEST_CASE("float32 logits are PyTorch's in every form and variant of the backend") {
  check_dtype(DType::f32, "logits_f32", kFloat32Tolerance);
}

TEST_CASE("bfloat16 logits are PyTorch's with weights rounded alike") {
  check_dtype(DType::bf16, "logits_bf16", bdh::test::kHalfTolerance);
}

TEST_CASE("float16 logits are PyTorch's with weights rounded alike") {
  check_dtype(DType::f16, "logits_f16", bdh::test::kHalfTolerance);
}

TEST_CASE(
    "with a horizon, for all heads or for each, float32 logits are PyTorch's in every form and variant") {
  size_t models = 0;
  for (const Golden& golden : all_golden()) {
    if (!golden.damped) continue;
    ++models;
    for (const std::string name : {"all", "by_head"}) {
      const auto horizon = values<float>(golden.damped->tensor("horizon_" + name));
      std::vector<float> want = values<float>(golden.damped->tensor("logits_" + name));
      want.resize(count_of(golden) * static_cast<size_t>(golden.config.vocab_size));
      for (const std::string& variant : bdh::test::variants()) {
        const WeightsPointer weights = weights_of(golden, DType::f32, variant, 1);
        for (const Reading& reading : std::span(kReadings).first(kUsed)) {
          CAPTURE(golden.name);
          CAPTURE(name);
          CAPTURE(variant);
          CAPTURE(reading.name);
          bdh::Session session(weights, {.horizon = horizon});
          const auto got = session.read_all(std::span(golden.tokens).first(count_of(golden)),
                                            bdh::test::in_form(reading.form, reading.chunk));
          CHECK(relative_difference(got, want) <= kFloat32Tolerance);
        }
      }
    }
  }
  CHECK(models >= 2);
}

TEST_CASE("forward is PyTorch's for several sequences at once") {
  const std::vector<Golden> golden_logits = all_golden();
  for (const Golden& golden : golden_logits) {
    CAPTURE(golden.name);
    const std::span<const int32_t> whole = std::span(golden.tokens).first(count_of(golden));
    const std::vector<std::span<const int32_t>> sequences = {whole.first((whole.size() + 1) / 2), whole};
    const std::vector<float> got = bdh::forward(*weights_of(golden, DType::f32, "", 2), sequences);
    const std::vector<float> all = wanted(golden, "logits_f32");
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
      for (const std::string& variant : bdh::test::variants()) {
        CAPTURE(golden.name);
        CAPTURE(bdh::name_of(dtype));
        CAPTURE(variant);
        const std::vector<float> one = threaded_logits(golden, dtype, variant, 1);
        for (const int threads : bdh::test::thread_counts()) {
          CAPTURE(threads);
          const std::vector<float> more = threaded_logits(golden, dtype, variant, threads);
          REQUIRE(more.size() == one.size());
          CHECK(std::memcmp(one.data(), more.data(), one.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}
