// Optimizer: AdamW, clipping, averages and the loss scale against the formulas in float64.
#include "bdh/train/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "bdh/train/trainer.h"
#include "tests/support/planes.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int64_t kTokens = 5;

// A training with parameters, and gradients to step by.
struct Bench {
  std::unique_ptr<Training> training = small_training();
  std::unique_ptr<Plane> parameters = patterned_plane(*training, 1);
  RunState state;

  GradientNode gradient(uint64_t seed, double nats = 10) {
    return {0, 0, {nats, kTokens}, patterned_plane(*training, seed)};
  }
  TensorMap tensors(const Plane& plane) const { return training->tensors(plane); }
};

// The gradient of seed 2 + step, divided by tokens and clipped, in float64.
std::vector<double> mean_gradient(Bench& bench, const std::string& name, uint64_t step, double scale) {
  const TensorMap all = bench.tensors(*bench.gradient(2 + step).gradient);
  std::vector<double> gradient;
  for (const float g : values<float>(all.at(name))) gradient.push_back(g * scale);
  return gradient;
}

// Decoupled decay, then the two moments with their bias taken out.
std::vector<double> adamw(Bench& bench, const std::string& name, const TrainOptions& options, double rate,
                          double decay, double scale, int steps) {
  const TensorMap start = bench.tensors(*bench.parameters);
  std::vector<double> p, m, v;
  for (const float value : values<float>(start.at(name))) p.push_back(value);
  m.resize(p.size()), v.resize(p.size());
  for (int step = 1; step <= steps; ++step) {
    const auto g = mean_gradient(bench, name, static_cast<uint64_t>(step), scale);
    for (size_t i = 0; i < p.size(); ++i) {
      p[i] *= 1 - rate * decay;
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g[i];
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g[i] * g[i];
      const double mean = m[i] / (1 - std::pow(options.beta1, step));
      const double square = v[i] / (1 - std::pow(options.beta2, step));
      p[i] -= rate * mean / (std::sqrt(square) + options.epsilon);
    }
  }
  return p;
}

double worst_difference(const Tensor& got, const std::vector<double>& want) {
  const std::vector<float> numbers = values<float>(got);
  REQUIRE(numbers.size() == want.size());
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(numbers[i] - want[i]));
  return worst;
}

double norm_of(Bench& bench, uint64_t seed) {
  return std::sqrt(bench.training->squared_norm(*bench.gradient(seed).gradient));
}

TrainOptions brisk() {
  TrainOptions options;
  options.schedule.rate = 0.01;
  options.no_decay = {"embed.weight", "lm_head"};
  options.weight_decay = 0.3;
  return options;
}

StepOutcome infinite_step(Optimizer& optimizer, Bench& bench) {
  GradientNode sum = bench.gradient(3);
  TensorMap tensors = bench.tensors(*sum.gradient);
  std::byte* data = nullptr;
  Tensor infinite = make_tensor(DType::f32, tensors.at("lm_head").shape, &data);
  reinterpret_cast<float*>(data)[3] = std::numeric_limits<float>::infinity();
  tensors.at("lm_head") = infinite;
  bench.training->set(*sum.gradient, tensors);
  return optimizer.step(bench.state, sum, 0.01, *bench.parameters);
}

}  // namespace

TEST_CASE("steps of the optimizer are AdamW's on the mean gradient, with decay by parameter") {
  Bench bench;
  const TrainOptions options = brisk();
  std::map<std::string, std::vector<double>> want;
  for (const std::string& name : bench.training->names()) {
    const double decay = name == "embed.weight" || name == "lm_head" ? 0 : 0.3;
    want[name] = adamw(bench, name, options, 0.01, decay, 1.0 / kTokens, 4);
  }
  Optimizer optimizer(*bench.training, options, *bench.parameters);
  for (uint64_t step = 1; step <= 4; ++step) {
    const StepOutcome outcome =
        optimizer.step(bench.state, bench.gradient(2 + step), 0.01, *bench.parameters);
    CHECK(outcome.kind == StepKind::updated);
    CHECK(outcome.loss == 2);
    CHECK(outcome.tokens == kTokens);
    CHECK(outcome.norm == doctest::Approx(norm_of(bench, 2 + step) / kTokens));
    advance(bench.state, outcome, options);
  }
  CHECK(bench.state.optimizer_step == 4);
  const TensorMap got = bench.tensors(*bench.parameters);
  for (const std::string& name : bench.training->names()) {
    CAPTURE(name);
    CHECK(worst_difference(got.at(name), want.at(name)) < 2e-6);
  }
}

TEST_CASE("a gradient whose norm is too large is clipped as torch clips it") {
  Bench bench;
  TrainOptions options = brisk();
  options.epsilon = 1;  // so that the size of a gradient matters
  options.clip = 0.5;
  const double norm = norm_of(bench, 3) / kTokens, coefficient = 0.5 / (norm + 1e-6);
  REQUIRE(coefficient < 0.5);
  const auto want = adamw(bench, "decoder", options, 0.01, 0.3, coefficient / kTokens, 1);
  Optimizer(*bench.training, options, *bench.parameters)
      .step(bench.state, bench.gradient(3), 0.01, *bench.parameters);
  CHECK(worst_difference(bench.tensors(*bench.parameters).at("decoder"), want) < 1e-6);

  Bench small;
  options.clip = 2 * norm;
  const auto unclipped = adamw(small, "decoder", options, 0.01, 0.3, 1.0 / kTokens, 1);
  Optimizer(*small.training, options, *small.parameters)
      .step(small.state, small.gradient(3), 0.01, *small.parameters);
  CHECK(worst_difference(small.tensors(*small.parameters).at("decoder"), unclipped) < 1e-6);
}

TEST_CASE("the average starts from the parameters and follows them") {
  Bench bench;
  TrainOptions options = brisk();
  options.ema = 0.75;
  std::vector<float> want = numbers(*bench.training, *bench.parameters);
  Optimizer optimizer(*bench.training, options, *bench.parameters);
  CHECK(numbers(*bench.training, *optimizer.average()) == want);
  for (uint64_t step = 1; step <= 3; ++step) {
    advance(bench.state, optimizer.step(bench.state, bench.gradient(2 + step), 0.01, *bench.parameters),
            options);
    const std::vector<float> now = numbers(*bench.training, *bench.parameters);
    for (size_t i = 0; i < now.size(); ++i) want[i] = 0.75f * want[i] + 0.25f * now[i];
  }
  const std::vector<float> got = numbers(*bench.training, *optimizer.average());
  for (size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == doctest::Approx(want[i]).epsilon(1e-6));
  CHECK(bench.state.ema_step == 3);
  CHECK(Optimizer(*bench.training, TrainOptions(), *bench.parameters).average() == nullptr);
}

TEST_CASE(
    "float16: a gradient that overflows is skipped and the loss scale halved; many good steps double it") {
  Bench bench;
  TrainOptions options = brisk();
  options.dtype = DType::f16;
  bench.state.loss_scale = first_loss_scale(DType::f16);
  CHECK(bench.state.loss_scale == 65536);
  const std::vector<float> before = numbers(*bench.training, *bench.parameters);
  Optimizer optimizer(*bench.training, options, *bench.parameters);
  const StepOutcome outcome = infinite_step(optimizer, bench);
  CHECK(outcome.kind == StepKind::overflow);
  CHECK(numbers(*bench.training, *bench.parameters) == before);
  advance(bench.state, outcome, options);
  CHECK(bench.state.loss_scale == 32768);
  CHECK(bench.state.step == 1);
  CHECK(bench.state.optimizer_step == 0);

  for (int i = 0; i < 1999; ++i) advance(bench.state, {}, options);
  CHECK(bench.state.loss_scale == 32768);
  advance(bench.state, {}, options);
  CHECK(bench.state.loss_scale == 65536);
  CHECK(bench.state.good_steps == 0);
  bench.state.loss_scale = 0x1p-24;
  CHECK(infinite_step(optimizer, bench).kind == StepKind::diverged);
}

TEST_CASE("the loss scale is taken out of norm and update again") {
  Bench plain, scaled;
  const TrainOptions options = brisk();
  scaled.state.loss_scale = 4;
  Optimizer one(*plain.training, options, *plain.parameters);
  Optimizer other(*scaled.training, options, *scaled.parameters);
  GradientNode sum = scaled.gradient(3);
  for (int i = 0; i < 3; ++i) scaled.training->add(*sum.gradient, *scaled.gradient(3).gradient);
  const StepOutcome got = other.step(scaled.state, sum, 0.01, *scaled.parameters);
  const StepOutcome want = one.step(plain.state, plain.gradient(3), 0.01, *plain.parameters);
  CHECK(got.norm == doctest::Approx(want.norm));
  const std::vector<float> a = numbers(*plain.training, *plain.parameters);
  const std::vector<float> b = numbers(*scaled.training, *scaled.parameters);
  for (size_t i = 0; i < a.size(); ++i) REQUIRE(a[i] == doctest::Approx(b[i]).epsilon(1e-6));
}

TEST_CASE("in float32 and bfloat16 what is not finite is divergence, and changes nothing") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Bench bench;
    TrainOptions options = brisk();
    options.dtype = dtype;
    Optimizer optimizer(*bench.training, options, *bench.parameters);
    const std::vector<float> before = numbers(*bench.training, *bench.parameters);
    CHECK(infinite_step(optimizer, bench).kind == StepKind::diverged);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(optimizer.step(bench.state, bench.gradient(3, nan), 0.01, *bench.parameters).kind ==
          StepKind::diverged);
    CHECK(numbers(*bench.training, *bench.parameters) == before);
  }
}

TEST_CASE("a name without decay must be a parameter's") {
  Bench bench;
  TrainOptions options;
  options.no_decay = {"lm_head", "head"};
  const Thrown thrown = thrown_by([&] { Optimizer(*bench.training, options, *bench.parameters); });
  CHECK(thrown.kind == ErrorKind::invalid_argument);
  CHECK(thrown.says("no_decay: the model has no parameter 'head', but decoder, encoder"));
}
