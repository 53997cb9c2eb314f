// The weights of a new model: their distribution, and that each number depends on seed, name and index alone.
#include <doctest/doctest.h>

#include <cmath>

#include "bdh/model/weights.h"
#include "bdh/train/trainer.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"

using namespace bdh;
using namespace bdh::test;

namespace {

std::vector<float> numbers_of(const Config& config, uint64_t seed, const std::string& name) {
  return values<float>(initial_weights(config, seed).at(name));
}

}  // namespace

TEST_CASE("a new model has every tensor of its config, and the frequencies of the formula") {
  for (const Config& config : {tiny_config(), untied(tiny_config())}) {
    const TensorMap weights = initial_weights(config, 3);
    for (const auto& [name, shape] : parameter_shapes(config)) CHECK(weights.at(name).shape == shape);
    CHECK(weights.size() == parameter_shapes(config).size());
    CHECK(same_bits(weights.at("attn.freqs"), random_state_dict(config, 1).at("attn.freqs")));
  }
}

TEST_CASE("new weights are normal with deviation 0.02") {
  const std::vector<float> weights = numbers_of(config_of(1, 64, 2, 32), 7, "encoder");
  const auto count = static_cast<double>(weights.size());
  double moments[5] = {};
  int64_t beyond_two = 0;
  for (const float weight : weights) {
    const double z = weight / 0.02;
    for (int power = 1; power < 5; ++power) moments[power] += std::pow(z, power) / count;
    beyond_two += std::abs(z) > 2;
  }
  REQUIRE(count > 100000);
  CHECK(std::abs(moments[1]) < 0.01);
  CHECK(std::abs(moments[2] - 1) < 0.02);
  CHECK(std::abs(moments[3]) < 0.03);
  CHECK(std::abs(moments[4] - 3) < 0.1);
  CHECK(static_cast<double>(beyond_two) / count == doctest::Approx(0.0455).epsilon(0.03));
}

TEST_CASE("another seed or name gives other weights, another size the same ones") {
  const Config small = config_of(1, 8, 2, 4, 19);
  Config larger = small;
  larger.vocab_size = 40;
  const std::vector<float> few = numbers_of(small, 7, "embed.weight");
  std::vector<float> many = numbers_of(larger, 7, "embed.weight");
  CHECK(few == numbers_of(small, 7, "embed.weight"));
  CHECK(few != numbers_of(small, 8, "embed.weight"));
  CHECK(numbers_of(small, 7, "encoder") != numbers_of(small, 7, "encoder_v"));
  many.resize(few.size());
  CHECK(many == few);
}
