// The gradients that training kernels are compared with, by differences of the loss.
#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/training_models.h"

namespace {

using namespace bdh::test;

struct Case {
  const char* name;
  bdh::Config config;
  std::vector<float> horizons;
  bool carried = false;
  DropoutMask mask;
};

double dropped(int64_t layer, int64_t sequence, int64_t token, int64_t neuron) {
  return (layer * 31 + sequence * 17 + token * 7 + neuron * 3) % 5 == 0 ? 0.0 : 1.25;
}

std::vector<Case> cases() {
  return {{"plain", config_of(2, 6, 2, 4, 11), {}, false, {}},
          {"odd heads", config_of(2, 7, 3, 6, 5), {}, false, {}},
          {"untied", untied(config_of(3, 5, 1, 4, 7)), {}, false, {}},
          {"horizon by head", config_of(2, 6, 2, 4, 11), {2.5f, INFINITY}, false, {}},
          {"carried", config_of(2, 6, 2, 4, 11), {}, true, {}},
          {"carried, horizon", untied(config_of(2, 6, 2, 4, 11)), {4.0f, 9.0f}, true, {}},
          {"dropout", config_of(2, 6, 2, 4, 11), {}, false, dropped}};
}

// A state that an earlier batch left.
ReferenceState state_before(const Case& tried, const ReferenceModel& model, const NamedNumbers& parameters) {
  ReferenceState state;
  if (tried.carried)
    reference_gradient(model, parameters, training_tokens(tried.config, 2, 5, 8).batch(), &state);
  return state;
}

double loss_of(const Case& tried, const ReferenceModel& model, const NamedNumbers& parameters,
               const bdh::MicroBatch& batch, ReferenceState state) {
  return reference_gradient(model, parameters, batch, tried.carried ? &state : nullptr, tried.mask).nats;
}

}  // namespace

TEST_CASE("the reference's gradients are the differences of its loss") {
  constexpr double kStep = 1e-5;
  const std::vector<Case> all = cases();
  for (const Case& tried : std::span(all).first(bdh::test::unless_slow(all.size(), size_t{1}))) {
    CAPTURE(tried.name);
    const ReferenceModel model = reference_model(tried.config, tried.horizons);
    NamedNumbers parameters = named_numbers(training_weights(tried.config, 5, 0.3f));
    const TrainingTokens tokens = training_tokens(tried.config, 2, 6, 9);
    const ReferenceState state = state_before(tried, model, parameters);
    ReferenceState moved = state;
    const ReferenceLoss found =
        reference_gradient(model, parameters, tokens.batch(), tried.carried ? &moved : nullptr, tried.mask);
    CHECK(found.tokens == 10);
    CHECK(found.gradients.size() == parameters.size());
    for (auto& entry : parameters) {
      const std::string& name = entry.first;
      auto& values = entry.second;
      CAPTURE(name);
      std::vector<double> differences;
      for (double& value : values) {
        const double kept = value;
        value = kept + kStep;
        const double above = loss_of(tried, model, parameters, tokens.batch(), state);
        value = kept - kStep;
        const double below = loss_of(tried, model, parameters, tokens.batch(), state);
        value = kept;
        differences.push_back((above - below) / (2 * kStep));
      }
      CHECK(relative_error(found.gradients.at(name), differences) < 1e-6);
    }
  }
}

TEST_CASE("the reference reads on from a carried state as in one piece") {
  const bdh::Config config = config_of(2, 6, 2, 4, 11);
  for (const std::vector<float>& horizons : {std::vector<float>(), std::vector<float>{3.0f, 8.0f}}) {
    const ReferenceModel model = reference_model(config, horizons);
    const NamedNumbers parameters = named_numbers(training_weights(config, 5, 0.3f));
    const TrainingTokens whole = training_tokens(config, 1, 12, 9);
    double nats = 0;
    ReferenceState state;
    for (int64_t at = 0; at < 12; at += 4) {
      bdh::MicroBatch part = whole.batch();
      part.tokens = 4;
      part.inputs = part.inputs.subspan(at, 4);
      part.targets = part.targets.subspan(at, 4);
      nats += reference_gradient(model, parameters, part, &state).nats;
    }
    CHECK(state.position == 12);
    CHECK(nats == doctest::Approx(reference_gradient(model, parameters, whole.batch()).nats).epsilon(1e-12));
  }
}
