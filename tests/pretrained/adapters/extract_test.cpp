// Adapters of two models: exact where the rank is enough, as near as eigenvalues say where it is not.
#include "bdh/pretrained/adapters/extract.h"

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bdh/pretrained/quantize.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

using namespace bdh;
using namespace bdh::test;

Model model_of(const Config& config, const TensorMap& weights) {
  Model model;
  model.weights = std::make_shared<Weights>(config, weights, backend());
  return model;
}

// W + deviation * normal numbers, of the parameters whose names begin so.
TensorMap changed(TensorMap weights, std::string_view begin, float deviation) {
  std::mt19937_64 bits(7);
  std::normal_distribution<float> normal(0.0f, deviation);
  for (auto& [name, tensor] : weights) {
    if (name == kFreqs || !name.starts_with(begin)) continue;
    std::byte* data = nullptr;
    const std::vector<float> before = values<float>(tensor);
    tensor = make_tensor(DType::f32, tensor.shape, &data);
    for (size_t i = 0; i < before.size(); ++i) reinterpret_cast<float*>(data)[i] = before[i] + normal(bits);
  }
  return weights;
}

double squared_distance(const Tensor& a, const Tensor& b) {
  const std::vector<float> x = values<float>(a), y = values<float>(b);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  return sum;
}

TensorMap with(const Model& base, const LoraAdapter& adapter) {
  const AppliedAdapter whole{adapter};
  return merged(base, {&whole, 1}).weights->state_dict();
}

const Config kTied = config_of(2, 12, 2, 4, 19);

}  // namespace

TEST_CASE("an adapter of full rank makes the tuned model of the base") {
  for (const Config& config : {kTied, untied(kTied)}) {
    const TensorMap weights = random_state_dict(config, 1), tuned = changed(weights, "", 0.1f);
    const Model base = model_of(config, weights);
    const ExtractedAdapter extracted = extracted_adapter(base, model_of(config, tuned), 12);
    CHECK(extracted.held.size() == tuned.size() - 1);
    for (const HeldDifference& part : extracted.held) CHECK(part.held == doctest::Approx(1));
    for (const auto& [name, tensor] : with(base, extracted.adapter))
      CHECK(relative_difference(values<float>(tensor), values<float>(tuned.at(name))) < 1e-5);
  }
}

TEST_CASE("an adapter that was merged is found again by its rank") {
  const TensorMap weights = random_state_dict(kTied, 1);
  const Model base = model_of(kTied, weights);
  const TensorMap random = changed(weights, "", 0.1f);
  const LoraAdapter first = extracted_adapter(base, model_of(kTied, random), 2).adapter;
  const TensorMap tuned = with(base, first);
  const ExtractedAdapter again = extracted_adapter(base, model_of(kTied, tuned), 2);
  for (const HeldDifference& part : again.held) CHECK(part.held > 1 - 1e-9);
  for (const auto& [name, tensor] : with(base, again.adapter))
    CHECK(relative_difference(values<float>(tensor), values<float>(tuned.at(name))) < 1e-5);
}

TEST_CASE("what an adapter of a lower rank lacks is what it says") {
  const TensorMap weights = random_state_dict(kTied, 1), tuned = changed(weights, "encoder", 0.1f);
  const Model base = model_of(kTied, weights);
  double last = 0;
  for (const int64_t rank : {1, 3, 7}) {
    const ExtractedAdapter extracted = extracted_adapter(base, model_of(kTied, tuned), rank);
    REQUIRE(extracted.held.size() == 2);  // encoder and encoder_v
    const TensorMap near = with(base, extracted.adapter);
    for (const HeldDifference& part : extracted.held) {
      const double all = squared_distance(weights.at(part.parameter), tuned.at(part.parameter));
      const double left = squared_distance(near.at(part.parameter), tuned.at(part.parameter));
      CHECK(part.norm * part.norm == doctest::Approx(all));
      CHECK(1 - part.held == doctest::Approx(left / all).epsilon(1e-4));
    }
    CHECK(extracted.held.front().held > last);
    last = extracted.held.front().held;
  }
}

TEST_CASE("models of which no adapter makes one of the other are refused") {
  const TensorMap weights = random_state_dict(kTied, 1);
  const Model base = model_of(kTied, weights), tuned = model_of(kTied, changed(weights, "", 0.1f));
  const auto refused = [](const Model& from, const Model& to, int64_t rank) {
    return thrown_by([&] { extracted_adapter(from, to, rank); });
  };
  CHECK(refused(base, base, 2).says("the two models have the same weights"));
  for (const int64_t rank : {int64_t{0}, int64_t{13}, std::numeric_limits<int64_t>::max()})
    CHECK(refused(base, tuned, rank).says("give one from 1 to 12"));
  const Config other = config_of(2, 12, 2, 4, 20);
  CHECK(refused(base, model_of(other, random_state_dict(other, 1)), 2).says("have not the same sizes"));
  const Config more = config_of(3, 12, 2, 4, 19);
  const Model deep = model_of(untied(kTied), random_state_dict(untied(kTied), 1)),
              deeper = model_of(untied(more), random_state_dict(untied(more), 1));
  CHECK(refused(deep, deeper, 2).says("the second has more layers"));
  CHECK(refused(base, deep, 2).says("'decoder' is missing in the second"));
  CHECK(refused(base, quantized(base, 8), 2).kind == ErrorKind::unsupported);
  TensorMap infinite = weights;
  std::byte* data = nullptr;
  infinite.at("lm_head") = make_tensor(DType::f32, {12, 19}, &data);
  reinterpret_cast<float*>(data)[5] = std::numeric_limits<float>::infinity();
  CHECK(refused(base, model_of(kTied, infinite), 2).says("'lm_head' holds a number that is not finite"));
  TensorMap slower = weights;
  slower.at(kFreqs) = make_tensor(DType::f32, weights.at(kFreqs).shape, &data);
  CHECK(refused(base, model_of(kTied, slower), 2).says("other frequencies (attn.freqs)"));
}
