// What only the emulator can show of training on CUDA: orders of threads, allocations, missing memory.
#include <doctest/doctest.h>

#include <memory>

#include "bdh/base/error.h"
#include "kernels/cuda/backend.h"
#include "tests/support/cuda/emulator.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"
#include "tests/support/training_models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

// A model in training, with a state carried from step to step.
struct Run {
  Config config = config_of(1, 12, 2, 8, 30);
  TensorMap weights = training_weights(config, 5);
  TrainingTokens tokens = training_tokens(config, 2, 20, 9);
  std::shared_ptr<Backend> backend = cuda::make_backend();
  std::unique_ptr<Training> training;
  std::unique_ptr<Plane> parameters, gradient, exp_avg, exp_avg_sq;
  std::unique_ptr<CarriedState> carried;

  explicit Run(TrainingForm form, DType precision = DType::f32) {
    Tensor freqs = weights.at("attn.freqs");
    freqs.shape = {config.neurons_per_head()};
    freqs.strides = {1};
    TrainingOptions options;
    options.form = form;
    options.chunk = 8;
    options.precision = precision;
    options.horizons = {9.0f, 40.0f};
    options.dropout = 0.1f;
    training = backend->new_training(config.dimensions(), freqs, options);
    for (auto* plane : {&parameters, &gradient, &exp_avg, &exp_avg_sq}) *plane = training->new_plane();
    training->set(*parameters, weights);
    carried = training->new_carried_state(2);
  }

  double step() {
    const LossSum loss = training->gradient(*parameters, tokens.batch(1), *gradient, carried.get());
    AdamWStep update;
    update.decay.assign(training->names().size(), 0.1);
    update.gradient_scale = 1 / std::sqrt(training->squared_norm(*gradient));
    training->update(*parameters, *exp_avg, *exp_avg_sq, *gradient, update);
    return loss.nats;
  }
};

}  // namespace

TEST_CASE(
    "CUDA training: the same bits whatever the order of threads and blocks, and with streams that lag") {
  for (const TrainingForm form : {TrainingForm::parallel, TrainingForm::chunked}) {
    const auto two_steps = [&] {
      Run run(form);
      run.step();
      const double nats = run.step();
      return std::pair(nats, run.training->tensors(*run.parameters));
    };
    emulation::reset();
    const auto want = two_steps();
    for (const uint64_t seed : {1, 2, 3}) {
      emulation::set_thread_order(seed);
      emulation::set_streams_lazy(seed == 2);
      const auto got = two_steps();
      CHECK(got.first == want.first);
      CHECK(same_bits(got.second, want.second));
    }
    emulation::reset();
  }
}

TEST_CASE("CUDA training: a step allocates nothing once warm, and all memory comes back") {
  const size_t before = emulation::bytes_allocated();
  for (const DType precision : {DType::f32, DType::bf16}) {
    for (const TrainingForm form : {TrainingForm::parallel, TrainingForm::chunked}) {
      Run run(form, precision);
      run.step();
      run.training->loss(*run.parameters, run.tokens.batch(), run.carried.get());
      const uint64_t allocations = emulation::allocations();
      run.step();
      run.training->loss(*run.parameters, run.tokens.batch(), run.carried.get());
      CHECK(emulation::allocations() == allocations);
    }
  }
  CHECK(emulation::bytes_allocated() == before);
}

TEST_CASE("CUDA training: missing memory is one clear error, and a later step is as if it had not been") {
  emulation::reset();
  const double want = Run(TrainingForm::chunked).step();
  size_t successes = 0;
  for (bool missed = true; missed; ++successes) {
    CAPTURE(successes);
    Run run(TrainingForm::chunked);
    emulation::fail_next_allocation(successes);
    const auto read = [&] {
      run.training->gradient(*run.parameters, run.tokens.batch(1), *run.gradient, run.carried.get());
    };
    missed = thrown_by(read).kind == ErrorKind::out_of_memory;
    emulation::reset();
    if (!missed) continue;
    CHECK(run.carried->position() == 0);
    CHECK(run.step() == want);
  }
  CHECK(successes > 3);
}

TEST_CASE("CUDA training: a kernel that does not start is an error") {
  Run run(TrainingForm::parallel);
  emulation::fail_next_launch(10);
  CHECK(thrown_by([&] { run.step(); }).kind == ErrorKind::unsupported);
  emulation::reset();
}
