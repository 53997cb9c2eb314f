// The CUDA backend against the CPU backend: every form, dtype and width, batches and states. Runs on a GPU
// (bdh_gpu_tests) and, everywhere, on the emulator (bdh_cuda_tests).
#include "kernels/cuda/backend.h"

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "bdh/base/error.h"
#include "kernels/cuda/devices.h"
#include "tests/kernels/cuda/weights.h"
#include "tests/support/backends.h"
#include "tests/support/golden_logits.h"
#include "tests/support/tensors.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr float kFloat32Tolerance = 1e-5f;  // of the largest logit
// The CPU rounds x to 16 bits before products with quantized rows.
constexpr float kQuantizedTolerance = 1e-3f;

}  // namespace

TEST_CASE("CUDA: mixed reads of ragged batches agree with the CPU, activity included") {
  for (const Config& config : {config_of(2, 20, 5, 7, 33), config_of(2, 48, 3, 40, 77)}) {
    const WeightsPointer gpu = on_gpu(config), cpu = on_cpu(config);
    const auto tokens = some_tokens(90, config.vocab_size);
    const auto run = [&](const WeightsPointer& weights, std::vector<LayerActivity>& activity) {
      std::vector<Session> sessions;
      for (int i = 0; i < 3; ++i) sessions.emplace_back(weights);
      std::vector<Session*> all = {&sessions[0], &sessions[1], &sessions[2]};
      std::vector<float> logits;
      ReadOptions options = in_form(Form::chunked, 70);
      options.activity = &activity;
      const std::span<const int32_t> whole = tokens;
      // Chunks of different lengths at different positions, single tokens between them, and chunks again.
      for (const auto& lengths : {std::vector<size_t>{5, 70, 1}, {1, 1, 1}, {66, 3, 2}, {1, 1, 1}}) {
        std::vector<std::span<const int32_t>> parts;
        for (const size_t length : lengths) parts.push_back(whole.first(length));
        append(logits, read_batch(all, parts, options));
      }
      return logits;
    };
    std::vector<LayerActivity> seen, expected;
    CHECK(relative_difference(run(gpu, seen), run(cpu, expected)) <= kFloat32Tolerance);
    REQUIRE(seen.size() == expected.size());
    for (size_t layer = 0; layer < seen.size(); ++layer) {
      CHECK(seen[layer].tokens == expected[layer].tokens);
      CHECK(seen[layer].v_tokens == expected[layer].v_tokens);
      CHECK(std::abs(seen[layer].n - expected[layer].n) <= 2);
      CHECK(std::abs(seen[layer].pairs - expected[layer].pairs) <= 2);
      CHECK(std::abs(seen[layer].v - expected[layer].v) <= 2);
      CHECK(std::abs(seen[layer].g - expected[layer].g) <= 2);
    }
  }
}

TEST_CASE("CUDA: layers with weights of their own, whole sessions in every form") {
  const Config config = untied(config_of(3, 72, 2, 2, 50));
  const auto tokens = some_tokens(24, config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8, DType::u8}) {
    CAPTURE(name_of(dtype));
    const WeightsPointer gpu = on_gpu(config, dtype), cpu = on_cpu(config, dtype);
    const auto run = [&](const WeightsPointer& weights, Form form) {
      Session session(weights);
      std::vector<float> logits = session.read_all(std::span(tokens).first(20), in_form(form, 9));
      append(logits, session.read_all(std::span(tokens).subspan(20), in_form(Form::recurrent)));
      return logits;
    };
    for (const Form form : {Form::recurrent, Form::chunked, Form::parallel}) {
      CHECK(relative_difference(run(gpu, form), run(cpu, form)) <=
            (dtype == DType::f32 ? kFloat32Tolerance : kHalfTolerance));
    }
  }
}

TEST_CASE("CUDA: a batch of single tokens is the same, sparse, with shared lists or dense") {
  const Config config = config_of(2, 72, 2, 4, 50);
  constexpr int kSequences = 5;
  for (const DType dtype : {DType::f32, DType::bf16, DType::i8, DType::u8}) {
    const auto run = [&](const WeightsPointer& weights) {
      std::vector<Session> sessions;
      std::vector<std::vector<int32_t>> texts;
      std::vector<LayerActivity> activity;
      std::vector<float> all;
      for (int i = 0; i < kSequences; ++i) sessions.emplace_back(weights);
      for (int i = 1; i < kSequences; ++i)
        sessions[static_cast<size_t>(i)].read(some_tokens(7 * i, config.vocab_size));
      std::vector<Session*> batch;
      for (Session& session : sessions) batch.push_back(&session);
      for (int32_t token = 0; token < 3; ++token) {
        texts.assign(kSequences, {token});
        const std::vector<std::span<const int32_t>> tokens(texts.begin(), texts.end());
        ReadOptions options = in_form(Form::recurrent);
        options.activity = &activity;
        append(all, read_batch(batch, tokens, options));
      }
      for (const LayerActivity& layer : activity) CHECK(layer.tokens == 3 * kSequences);
      return all;
    };
    const std::vector<float> want = run(on_cpu(config, dtype));
    const float tolerance = dtype == DType::f32 ? kFloat32Tolerance : kHalfTolerance;
    constexpr int kNever = kSequences + 1;
    for (const cuda::Options& options :
         {cuda::Options{.dense_batch = kNever, .shared_batch = kNever},
          cuda::Options{.dense_batch = kNever, .shared_batch = 2}, cuda::Options{.dense_batch = 2}})
      CHECK(relative_difference(run(on_gpu(config, dtype, options)), want) <= tolerance);
  }
}

TEST_CASE("CUDA: every width, from one vector a lane to the form for any width") {
  for (const int64_t width : {6, 250, 300, 600, 1100, 2052}) {
    CAPTURE(width);
    const Config config = config_of(1, width, 1, 1, 20);
    const auto tokens = some_tokens(2, config.vocab_size);
    const WeightsPointer gpu = on_gpu(config), cpu = on_cpu(config);
    for (const Form form : {Form::recurrent, Form::parallel}) {
      if (form == Form::parallel && kSlow && width > 300) continue;  // whose tiles are alike
      CHECK(relative_difference(Session(gpu).read_all(tokens, in_form(form)),
                                Session(cpu).read_all(tokens, in_form(form))) <= kFloat32Tolerance);
    }
    for (const DType dtype : {DType::i8, DType::u8})
      CHECK(relative_difference(Session(on_gpu(config, dtype)).read_all(tokens, in_form(Form::recurrent)),
                                Session(on_cpu(config, dtype)).read_all(tokens, in_form(Form::recurrent))) <=
            kQuantizedTolerance);
  }
}

TEST_CASE("CUDA: chunks on the tensor cores, every dtype") {
  const Config config = config_of(2, 136, 2, 2, 60);  // N 136: a tile and a part of one
  const auto tokens = some_tokens(140, config.vocab_size);
  const std::vector<float> want = Session(on_cpu(config, DType::bf16)).read_all(tokens);
  CHECK(relative_difference(Session(on_gpu(config, DType::bf16)).read_all(tokens, in_form(Form::parallel)),
                            want) <= 1e-2f);
  CHECK(relative_difference(Session(on_gpu(config, DType::bf16)).read_all(tokens, in_form(Form::chunked, 50)),
                            want) <= 1e-2f);
  const auto first = std::span(tokens).first(30);
  const std::vector<float> half = Session(on_cpu(config, DType::f16)).read_all(first);
  CHECK(relative_difference(Session(on_gpu(config, DType::f16)).read_all(first, in_form(Form::chunked, 20)),
                            half) <= 2e-3f);
}

TEST_CASE("CUDA: products by warpgroups are those by warps, and an error where there are none") {
  const cuda::Options warpgroups{.mma = cuda::Mma::warpgroup};
  if (!cuda::has_warpgroups(0)) {
    CHECK_THROWS_WITH_AS(cuda::make_backend(0, warpgroups), doctest::Contains("capability"), Error);
    return;
  }
  const Config config = config_of(2, 72, 1, 2, 60);  // N 144: a tile and a part of one
  const auto tokens = some_tokens(unless_slow(140, 70), config.vocab_size);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const ReadOptions& options : {in_form(Form::parallel), in_form(Form::chunked, 50)}) {
      const auto read = [&](cuda::Mma mma) {
        return Session(on_gpu(config, dtype, {.mma = mma})).read_all(tokens, options);
      };
      CHECK(relative_difference(read(cuda::Mma::warpgroup), read(cuda::Mma::warp)) <=
            (dtype == DType::bf16 ? 1e-2f : 2e-3f));
    }
  }
}

TEST_CASE("CUDA: a decode whose kernels overlap gives the same bits, and an error where they cannot") {
  const cuda::Options overlap{.overlap = true};
  if (!cuda::can_overlap(0)) {
    CHECK_THROWS_WITH_AS(cuda::make_backend(0, overlap), doctest::Contains("capability"), Error);
    return;
  }
  const Config config = config_of(3, 72, 2, unless_slow(40, 4), 50);
  const auto tokens = some_tokens(unless_slow(50, 4), config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto read = [&](const cuda::Options& options) {
      return Session(on_gpu(config, dtype, options)).read_all(tokens, in_form(Form::recurrent));
    };
    CHECK(read(overlap) == read({}));
  }
}

TEST_CASE("CUDA: a text longer than a chunk is cut, also where nothing is kept") {
  const Config config = config_of(1, 8, 2, 4, 20);
  const auto tokens = some_tokens(1100, config.vocab_size);
  const std::vector<std::span<const int32_t>> sequences = {tokens, std::span(tokens).first(3)};
  CHECK(relative_difference(forward(*on_gpu(config), sequences), forward(*on_cpu(config), sequences)) <=
        kFloat32Tolerance);
}

TEST_CASE("CUDA: states move between devices, and copies go their own ways") {
  const Config config = config_of(2, 12, 3, 8, 50);
  const WeightsPointer gpu = on_gpu(config), cpu = on_cpu(config);
  const auto tokens = some_tokens(40, config.vocab_size);
  const std::span<const int32_t> whole = tokens;
  const auto here = cpu->backend().new_state(cpu->packed(), {}),
             there = gpu->backend().new_state(gpu->packed(), {});
  std::vector<float> want(50), got(50);
  const auto read = [&](const WeightsPointer& weights, State* state, std::span<const int32_t> part,
                        std::vector<float>& logits) {
    const Segment segment{state, part, logits.data(), false};
    weights->backend().read(weights->packed(), {.segments = {&segment, 1}});
  };
  read(cpu, here.get(), whole.first(30), want);
  SavedState moved = here->save();
  moved.held = {};
  moved.tokens = {};
  moved.s = folded(here->save(), config.dimensions(), {});
  moved.position = moved.base = 100000;
  there->restore(moved);
  here->restore(moved);
  const auto copy = gpu->backend().new_state(gpu->packed(), {});
  copy->copy(*there);
  read(gpu, there.get(), whole.subspan(30, 1), got);
  read(cpu, here.get(), whole.subspan(30, 1), want);
  CHECK(there->position() == 100001);
  CHECK(relative_difference(got, want) <= kFloat32Tolerance);
  CHECK(copy->position() == 100000);
  read(gpu, copy.get(), whole.subspan(30, 10), got);
  read(cpu, here.get(), whole.subspan(31, 9), want);
  CHECK(relative_difference(got, want) <= kFloat32Tolerance);
  const auto s_of = [&](const State& state) { return folded(state.save(), config.dimensions(), {}); };
  const Tensor saved = s_of(*copy), expected = s_of(*here);
  CHECK(relative_difference(values<float>(saved), values<float>(expected)) <= kFloat32Tolerance);
  CHECK_THROWS_AS(copy->restore({.position = 1, .s = converted(saved, DType::f16), .base = 1}), Error);
  const auto fresh = cpu->backend().new_state(cpu->packed(), {});
  read(cpu, fresh.get(), whole.first(20), want);
  const auto check_afresh = [&](const WeightsPointer& weights, State& state) {
    state.restore({.position = 0, .s = expected});  // nothing is remembered there
    read(weights, &state, whole.first(20), got);
    CHECK(relative_difference(got, want) <= kFloat32Tolerance);
    CHECK(relative_difference(values<float>(s_of(state)), values<float>(s_of(*fresh))) <= kFloat32Tolerance);
  };
  check_afresh(gpu, *there);
  check_afresh(cpu, *here);
}

TEST_CASE("CUDA: a position that is none is refused") {
  const WeightsPointer gpu = on_gpu(config_of(2, 12, 3, 8, 50));
  const auto state = gpu->backend().new_state(gpu->packed(), {});
  SavedState saved = state->save();
  saved.position = -1;
  CHECK_THROWS_AS(state->restore(saved), Error);
}

#ifndef BDH_CUDA_EMULATED  // hours there
TEST_CASE("CUDA: 100,000 tokens on, every form and dtype still agree with the CPU") {
  const Config config = config_of(2, 64, 2, 16, 256);  // N 512
  const auto tokens = some_tokens(100100, config.vocab_size);
  const auto long_ago = std::span(tokens).first(100000), now = std::span(tokens).subspan(100000);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(name_of(dtype));
    Session gpu(on_gpu(config, dtype)), cpu(on_cpu(config, dtype));
    gpu.read(long_ago, in_form(Form::chunked, 512));
    cpu.read(long_ago, in_form(Form::chunked, 512));
    const float tolerance = dtype == DType::f32 ? 1e-4f : 3e-2f;
    for (const Form form : {Form::recurrent, Form::chunked, Form::parallel}) {
      Session from_gpu = gpu.clone(), from_cpu = cpu.clone();
      CHECK(relative_difference(from_gpu.read_all(now, in_form(form, 64)),
                                from_cpu.read_all(now, in_form(form, 64))) <= tolerance);
    }
  }
}
#endif
