// Weights: what a state_dict must hold, and what is forgiven.
#include "bdh/model/weights.h"

#include <doctest/doctest.h>

#include <cstring>

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"

using namespace bdh;

namespace {

const Config kTiny = test::config_of(2, 16, 2, 4, 11);

std::vector<float> logits_of(const TensorMap& state_dict, std::vector<std::string>* warnings = nullptr) {
  const std::vector<int32_t> tokens{1, 2, 3, 10, 4};
  const auto weights =
      std::make_shared<Weights>(kTiny, state_dict, test::backend(), std::nullopt, "test", warnings);
  return Session(weights).read(tokens);
}

TensorMap renamed(const TensorMap& from, const std::string& prefix) {
  TensorMap to;
  for (const auto& [name, tensor] : from) to[prefix + name] = tensor;
  return to;
}

Tensor of_shape(DType dtype, Shape shape) {
  std::byte* data = nullptr;
  return make_tensor(dtype, std::move(shape), &data);
}

}  // namespace

TEST_CASE("prefixes are dropped, frequencies derived, unknown tensors ignored with a warning") {
  TensorMap state_dict = random_state_dict(kTiny, 1);
  const std::vector<float> expected = logits_of(state_dict);
  CHECK(logits_of(renamed(state_dict, "_orig_mod.module.")) == expected);
  std::vector<std::string> warnings;
  state_dict["attn.freqs"] = converted(state_dict["attn.freqs"], DType::bf16);
  CHECK(logits_of(state_dict, &warnings) == expected);
  state_dict.erase("attn.freqs");
  CHECK(logits_of(state_dict, &warnings) == expected);
  CHECK(warnings.empty());
  state_dict["optimizer.step"] = of_shape(DType::i64, {1});
  CHECK(logits_of(state_dict, &warnings) == expected);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("optimizer.step") != std::string::npos);
  for (auto& [name, tensor] : state_dict) {
    if (name != "optimizer.step") tensor = converted(tensor, DType::f64);
  }
  CHECK(logits_of(state_dict) == expected);
}

TEST_CASE("what contradicts the config is an error naming tensor, found and expected") {
  const TensorMap good = random_state_dict(kTiny, 1);
  const auto with = [&](const std::string& name, Tensor tensor) {
    TensorMap state_dict = good;
    state_dict[name] = std::move(tensor);
    return state_dict;
  };
  CHECK_THROWS_WITH_AS(logits_of(with("encoder", of_shape(DType::f32, {2, 16, 30}))),
                       "test: tensor 'encoder' has shape (2, 16, 30), but config.json makes it (2, 16, 32); "
                       "the two belong to different models",
                       Error);
  CHECK_THROWS_WITH_AS(logits_of(with("lm_head", of_shape(DType::i32, {16, 11}))), doctest::Contains("I32"),
                       Error);
  CHECK_THROWS_WITH_AS(logits_of(with("attn.freqs", of_shape(DType::f32, {31}))),
                       doctest::Contains("(1, 1, 1, 32)"), Error);
  CHECK_THROWS_WITH_AS(logits_of(with("module.decoder", good.at("decoder"))),
                       doctest::Contains("more than once"), Error);
  TensorMap missing = good;
  missing.erase("embed.weight");
  CHECK_THROWS_WITH_AS(logits_of(missing), doctest::Contains("'embed.weight' is missing"), Error);
  std::byte* data = nullptr;
  Tensor freqs = make_tensor(DType::f32, {1, 1, 1, 32}, &data);
  const float wild = -1e30f;
  std::memcpy(data, &wild, sizeof wild);
  CHECK_THROWS_WITH_AS(logits_of(with("attn.freqs", freqs)), doctest::Contains("attn.freqs[0]"), Error);
}

TEST_CASE("weights for each layer, and those that all layers share, are not taken for one another") {
  const Config untied = test::untied(kTiny);
  const auto load = [](const Config& config, const TensorMap& state_dict) {
    return Weights(config, state_dict, test::backend(), std::nullopt, "test").state_dict();
  };
  const TensorMap own = random_state_dict(untied, 1), shared = random_state_dict(kTiny, 1);
  CHECK(own.size() == 9);
  CHECK(load(untied, renamed(own, "_orig_mod.")).size() == 9);
  CHECK_THROWS_WITH_AS(load(kTiny, own), doctest::Contains("must say tie_layers: false"), Error);
  CHECK_THROWS_WITH_AS(load(untied, shared), doctest::Contains("must not say tie_layers: false"), Error);
  TensorMap incomplete = own;
  incomplete.erase("decoder.1");
  CHECK_THROWS_WITH_AS(load(untied, incomplete), doctest::Contains("'decoder.1' is missing"), Error);
  incomplete["decoder.1"] = of_shape(DType::f32, {64, 15});
  CHECK_THROWS_WITH_AS(load(untied, incomplete), doctest::Contains("'decoder.1' has shape (64, 15)"), Error);
}

TEST_CASE("plain_name") {
  CHECK(plain_name("module._orig_mod.module.encoder") == "encoder");
  CHECK(plain_name("modulex.encoder") == "modulex.encoder");
}
