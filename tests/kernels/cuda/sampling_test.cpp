// Drawing on the device against bdh::Sampler: the same token for the same u, and what is left to the host.
#include "kernels/cuda/sampling.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/text/generation.h"
#include "tests/kernels/cuda/weights.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Logits with ties: a multiple of 1/8 each.
std::vector<float> some_logits(int64_t vocab, uint64_t seed) {
  std::vector<float> logits;
  for (int64_t token = 0; token < vocab; ++token)
    logits.push_back(
        static_cast<float>(std::floor(8 * (8 * uniform(seed, static_cast<uint64_t>(token)) - 4)) / 8));
  return logits;
}

// One draw from each row of logits (requests.size(), vocab).
std::vector<int32_t> draw_on_device(const std::vector<float>& logits, int vocab,
                                    const std::vector<cuda::DrawRequest>& requests) {
  const cuda::Stream stream;
  const size_t count = requests.size(), row_bytes = logits.size() * sizeof(float),
               request_bytes = count * sizeof(cuda::DrawRequest), token_bytes = count * sizeof(int32_t);
  cuda::DeviceMemory there(row_bytes, "logits"), asked(request_bytes, "requests"),
      drawn(token_bytes, "tokens");
  std::vector<int32_t> tokens(count);
  cuda::check(
      cudaMemcpyAsync(there.as<void>(), logits.data(), row_bytes, cudaMemcpyHostToDevice, stream.get()),
      "copying logits");
  cuda::check(
      cudaMemcpyAsync(asked.as<void>(), requests.data(), request_bytes, cudaMemcpyHostToDevice, stream.get()),
      "copying requests");
  cuda::draw_tokens(there.as<float>(), vocab, asked.as<cuda::DrawRequest>(), static_cast<int>(count),
                    drawn.as<int32_t>(), stream.get());
  cuda::check(
      cudaMemcpyAsync(tokens.data(), drawn.as<void>(), token_bytes, cudaMemcpyDeviceToHost, stream.get()),
      "copying tokens");
  stream.wait();
  return tokens;
}

// Steps of a sampler on the device and on the host, over rows of logits that differ.
void check_same(int vocab, const SamplingOptions& options, size_t steps) {
  CAPTURE(vocab);
  CAPTURE(options.top_k);
  CAPTURE(options.top_p);
  CAPTURE(options.temperature);
  Sampler sampler(options);
  std::vector<float> logits;
  std::vector<cuda::DrawRequest> requests;
  std::vector<int32_t> want;
  for (size_t step = 0; step < steps; ++step) {
    const std::vector<float> row = some_logits(vocab, step);
    logits.insert(logits.end(), row.begin(), row.end());
    requests.push_back(cuda::request_of({.options = options, .vocab = vocab, .step = step}));
    want.push_back(sampler.next(row, {}));
  }
  CHECK(draw_on_device(logits, vocab, requests) == want);
}

int32_t drawn_from(const std::vector<float>& logits, const SamplingOptions& options) {
  const auto vocab = static_cast<int>(logits.size());
  return draw_on_device(logits, vocab, {cuda::request_of({.options = options, .vocab = vocab})}).front();
}

}  // namespace

TEST_CASE("CUDA sampling: the host's draw, for every filter") {
  for (const int vocab : {1, 2, 33, 256, 700}) {
    for (const int64_t top_k : {0, 1, 5, 50, 5000}) {
      for (const float top_p : {0.0f, 0.3f, 0.95f, 1.0f}) {
        for (const float temperature : {0.0f, 0.1f, 1.0f, 30.0f})
          check_same(vocab, {.temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = 7}, 3);
      }
    }
  }
}

TEST_CASE("CUDA sampling: a large vocabulary") {
  check_same(20000, {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f}, 4);
  check_same(20000, {.do_sample = false}, 2);
}

TEST_CASE("CUDA sampling: impossible tokens are not drawn, and tokens beyond the vocabulary neither") {
  std::vector<float> logits(100, -kInfinity);
  logits[40] = -3.0f;
  logits[70] = -3.0f;
  CHECK(drawn_from(logits, {.do_sample = false}) == 40);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const int32_t token = drawn_from(logits, {.top_p = 1, .seed = seed});
    CHECK((token == 40 || token == 70));
  }
  const cuda::DrawRequest few = cuda::request_of({.options = {.do_sample = false}, .vocab = 3});
  CHECK(draw_on_device({1, 2, 0, 9, 9, 9}, 6, {few}).front() == 1);
  CHECK(drawn_from({-0.0f, 0.0f}, {.do_sample = false}) == 0);
}

TEST_CASE("CUDA sampling: broken logits, and too many candidates, are left to the host") {
  CHECK(drawn_from({0, std::nanf(""), 1}, {}) == cuda::kNotDrawn);
  CHECK(drawn_from({0, kInfinity}, {.do_sample = false}) == cuda::kNotDrawn);
  CHECK(drawn_from({-kInfinity, -kInfinity}, {}) == cuda::kNotDrawn);
  CHECK(drawn_from(std::vector<float>(cuda::kMostCandidates + 1), {.top_k = 0}) == cuda::kNotDrawn);
}

TEST_CASE("CUDA sampling: texts are the CPU's, and every token of a draw is counted") {
  const Config config = config_of(2, 16, 2, 8, 256);
  for (const float penalty : {1.0f, 1.2f}) {
    std::vector<GenerationResult> results;
    for (const WeightsPointer& weights :
         {on_cpu(config), on_gpu(config), on_gpu(config, {}, {.dense_batch = 2})}) {
      Session first(weights), second(weights);
      const std::vector<Session*> sessions{&first, &second};
      const std::vector<std::string> prompts{"To be", "or not"};
      GenerationConfig options;
      options.max_new_tokens = 24;
      options.sampling = {.repetition_penalty = penalty, .seed = 3};
      results.push_back(generate(sessions, ByteTokenizer(), prompts, options));
    }
    for (size_t i = 0; i < 2; ++i) {
      CHECK(results[1].texts[i].tokens == results[0].texts[i].tokens);
      CHECK(results[2].texts[i].tokens == results[0].texts[i].tokens);
    }
  }
}

TEST_CASE("CUDA sampling: what the device does not draw the host draws, from decode and from prefill") {
  const Config config = config_of(1, 16, 2, 8, cuda::kMostCandidates + 8);
  const SamplingOptions drawn{.seed = 5}, many{.temperature = 1000, .top_k = 0, .top_p = 1, .seed = 5},
      penalised{.repetition_penalty = 1.3f, .seed = 5};
  CHECK(cuda::drawn_on_device({.options = drawn}));
  CHECK_FALSE(cuda::drawn_on_device({.options = penalised}));
  CHECK_FALSE(cuda::drawn_on_device({.options = {.min_p = 0.1f}}));
  const std::vector<int32_t> banned{0, 7, 9};
  Draw with_banned{.options = drawn};
  with_banned.banned = banned;
  CHECK_FALSE(cuda::drawn_on_device(with_banned));
  const std::vector<int32_t> history = some_tokens(20, config.vocab_size);
  for (const int dense_batch : {8, 2}) {
    const WeightsPointer weights = on_gpu(config, {}, {.dense_batch = dense_batch});
    for (const auto& tokens : {some_tokens(1, 256), some_tokens(5, 256)}) {
      for (const auto& wanted : {std::vector{drawn, many}, {many, penalised}, {penalised, drawn}}) {
        const auto read = [&](std::span<Draw> draws) {
          Session first(weights), second(weights);
          Session* sessions[] = {&first, &second};
          const std::span<const int32_t> texts[] = {tokens, tokens};
          ReadOptions options;
          options.draws = draws;
          return read_batch(sessions, texts, options);
        };
        const std::vector<float> logits = read({});
        std::vector<Draw> draws;
        for (const SamplingOptions& options : wanted)
          draws.push_back({.options = options, .vocab = config.vocab_size, .step = 2, .history = history});
        draws.back().banned = banned;
        read(draws);
        for (size_t i = 0; i < draws.size(); ++i) {
          const auto vocab = static_cast<size_t>(config.vocab_size);
          CHECK(draws[i].token == Sampler().draw(draws[i], std::span(logits).subspan(i * vocab, vocab)));
        }
      }
    }
  }
}

TEST_CASE("CUDA sampling: a draw beside all logits, and one from logits that are not finite") {
  const Config config = config_of(1, 16, 2, 8, 40);
  const WeightsPointer weights = on_gpu(config);
  const auto tokens = some_tokens(5, config.vocab_size);
  std::vector<float> logits(5 * 40);
  Draw draw{.options = {.do_sample = false}, .vocab = config.vocab_size};
  const Segment segment{.tokens = tokens, .logits = logits.data(), .all_logits = true, .draw = &draw};
  weights->backend().read(weights->packed(), {.segments = {&segment, 1}});
  CHECK(draw.token == std::max_element(logits.end() - 40, logits.end()) - (logits.end() - 40));
  CHECK(logits == Session(weights).read_all(tokens));

  TensorMap broken = random_state_dict(config, 3);
  std::byte* data = nullptr;
  Tensor lm_head = make_tensor(DType::f32, {config.n_embd, config.vocab_size}, &data);
  std::fill_n(reinterpret_cast<float*>(data), lm_head.numel(), NAN);
  broken["lm_head"] = lm_head;
  const Weights never(config, broken, cuda::make_backend());
  const auto state = never.backend().new_state(never.packed(), {});
  for (const auto part : {std::span(tokens), std::span(tokens).first(1)}) {
    const Segment asks{.state = state.get(), .tokens = part, .draw = &draw};
    CHECK_THROWS_WITH_AS(never.backend().read(never.packed(), {.segments = {&asks, 1}}),
                         doctest::Contains("not finite"), Error);
  }
}
