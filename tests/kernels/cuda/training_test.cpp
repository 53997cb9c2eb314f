// Training on CUDA against the CPU's and against float64: dropout, tiles of the tensor cores, heads and
// sequences one after the other. tests/kernels/training_test.cpp has what every backend's must do.
#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "tests/kernels/cuda/cases.h"
#include "tests/support/backends.h"
#include "tests/support/tensors.h"
#include "tests/support/training_models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

struct Step {
  LossSum loss;
  TensorMap gradients;
  Tensor state;  // carried behind it
};

// The second of two micro-batches, the first carried over.
Step second_step(const std::shared_ptr<Backend>& backend, const Config& config,
                 const TrainingOptions& options, int64_t sequences, int64_t tokens) {
  const TensorMap weights = training_weights(config, 5);
  Tensor freqs = weights.at("attn.freqs");
  freqs.shape = {config.neurons_per_head()};
  freqs.strides = {1};
  const auto training = backend->new_training(config.dimensions(), freqs, options);
  const auto parameters = training->new_plane(), gradient = training->new_plane();
  training->set(*parameters, weights);
  const auto carried = training->new_carried_state(sequences);
  const TrainingTokens first = training_tokens(config, sequences, tokens, 9),
                       second = training_tokens(config, sequences, tokens, 10);
  training->loss(*parameters, first.batch(), carried.get());
  Step step;
  step.loss = training->gradient(*parameters, second.batch(3), *gradient, carried.get());
  step.gradients = training->tensors(*gradient);
  step.state = carried->save();
  return step;
}

std::vector<double> doubles(const Tensor& tensor) {
  const std::vector<float> numbers = values<float>(tensor);
  return {numbers.begin(), numbers.end()};
}

void check_near(const Step& got, const Step& want, double tolerance) {
  CHECK(got.loss.tokens == want.loss.tokens);
  CHECK(got.loss.nats == doctest::Approx(want.loss.nats).epsilon(tolerance));
  CHECK(relative_error(doubles(got.state), doubles(want.state)) <= tolerance);
  for (const auto& named : want.gradients) {
    CAPTURE(named.first);
    CHECK(relative_error(doubles(got.gradients.at(named.first)), doubles(named.second)) <= tolerance);
  }
}

TrainingOptions chunks_of(int64_t chunk) {
  TrainingOptions options;
  options.form = chunk > 0 ? TrainingForm::chunked : TrainingForm::parallel;
  options.chunk = chunk;
  options.dropout = 0.25f;
  options.seed = 12;
  return options;
}

}  // namespace

TEST_CASE("CUDA training: the CPU's loss, gradients and states, the same neurons dropped") {
  const Config config = untied(config_of(2, 20, 3, 6, 33));
  for (const int64_t chunk : {0, 7}) {
    CAPTURE(chunk);
    TrainingOptions options = chunks_of(chunk);
    for (const auto& horizons : {std::vector<float>{}, {5.0f, INFINITY, 30.0f}}) {
      options.horizons = horizons;
      check_near(second_step(cuda::make_backend(), config, options, 3, 18),
                 second_step(cpu::make_backend({1, {}}), config, options, 3, 18), 2e-5);
    }
  }
}

TEST_CASE("CUDA training: heads and sequences one after the other give what all together give") {
  const Config config = config_of(2, 20, 3, 6, 33);
  for (const int64_t chunk : {0, 7}) {
    CAPTURE(chunk);
    const TrainingOptions options = chunks_of(chunk);
    const Step together = second_step(cuda::make_backend(), config, options, 3, 18);
    for (const int64_t bytes : {1, 50000})
      check_near(second_step(cuda::make_backend(0, {.training_bytes = bytes}), config, options, 3, 18),
                 together, 1e-5);
  }
}

TEST_CASE("CUDA training: tiles of the tensor cores, by warps and by warpgroups") {
  const Config config = config_of(1, 136, 1, 1, 140);  // a tile and a part of one, of everything
  const int64_t tokens = 136;
  for (const int64_t chunk : {0, 72}) {
    CAPTURE(chunk);
    TrainingOptions options = chunks_of(chunk);
    options.horizons = {40.0f};
    const Step want = second_step(cpu::make_backend({1, {}}), config, options, 1, tokens);
    options.precision = DType::bf16;
    const Step on_cpu = second_step(cpu::make_backend({1, {}}), config, options, 1, tokens);
    for (const cuda::Mma mma : mmas()) {
      if (kSlow && chunk > 0 && mma == cuda::Mma::warp) continue;
      const Step got = second_step(cuda::make_backend(0, {.mma = mma}), config, options, 1, tokens);
      for (const auto& named : want.gradients) {  // no further off than twice the CPU
        CAPTURE(named.first);
        const auto error_of = [&](const Step& step) {
          return relative_error(doubles(step.gradients.at(named.first)), doubles(named.second));
        };
        CHECK(error_of(got) <= 2 * error_of(on_cpu) + 1e-3);
      }
    }
  }
}
