// Adapters beside the weights: the logits of merged ones, whatever the form, the batch and the base.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "bdh/base/error.h"
#include "bdh/model/quantization.h"
#include "bdh/model/session.h"
#include "bdh/model/session_file.h"
#include "bdh/pretrained/adapters/lora.h"
#include "bdh/pretrained/quantize.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

Tensor random_floats(const Shape& shape, std::mt19937& bits, float scale) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, shape, &data);
  std::normal_distribution<float> normal(0.0f, scale);
  for (int64_t i = 0; i < tensor.numel(); ++i) reinterpret_cast<float*>(data)[i] = normal(bits);
  return tensor;
}

/// Of every parameter with a name in `names`, of ranks that differ.
LoraAdapter random_adapter(const Config& config, const std::vector<std::string>& names, uint32_t seed) {
  std::mt19937 bits(seed);
  LoraAdapter adapter;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const std::string kind = name.substr(0, name.find('.'));
    if (name == kFreqs || std::find(names.begin(), names.end(), kind) == names.end()) continue;
    const int64_t rank = 1 + static_cast<int64_t>(adapter.updates.size() + seed) % 5 * 5;
    Shape left = shape, right = shape;
    left.back() = right[right.size() - 2] = rank;
    adapter.updates.push_back(
        {name, rank, 0.7, random_floats(left, bits, 0.1f), random_floats(right, bits, 0.1f)});
  }
  return adapter;
}

const std::vector<std::string> kAll = {"encoder", "encoder_v", "decoder", "embed", "lm_head"};

Model model_of(const Config& config, int threads = 1, DType dtype = DType::f32) {
  Model model;
  model.weights = std::make_shared<Weights>(config, random_state_dict(config, 3), backend(threads), dtype);
  return model;
}

std::vector<float> logits_of(const Model& model, std::span<const int32_t> tokens, Form form,
                             int64_t chunk = 7) {
  Session session(model.weights, {.horizon = {20}});
  return session.read_all(tokens, in_form(form, chunk));
}

}  // namespace

TEST_CASE("adapters beside the weights: merged ones' logits, of each target and of all, in every form") {
  if (!backend()->applies_adapters()) return;
  for (const Config& config : {config_of(2, 24, 3, 8, 40), untied(config_of(2, 64, 2, 20, 30))}) {
    const Model model = model_of(config, 2);
    const std::vector<int32_t> tokens = some_tokens(60, config.vocab_size);
    std::vector<std::vector<std::string>> targets = {kAll, {"encoder", "lm_head"}};
    for (const std::string& name : unless_slow(kAll, std::vector<std::string>{})) targets.push_back({name});
    for (const std::vector<std::string>& names : targets) {
      CAPTURE(names.front());
      const AppliedAdapter adapters[] = {{random_adapter(config, names, 1), 1.0},
                                         {random_adapter(config, names, 2), -0.5}};
      for (const size_t count : {1, 2}) {
        const Model beside = adapted(model, std::span(adapters).first(count));
        const Model in = merged(model, std::span(adapters).first(count));
        const std::vector<float> expected = logits_of(in, tokens, Form::parallel);
        CHECK(relative_difference(logits_of(model, tokens, Form::parallel), expected) > 1e-3);
        for (const Form form : {Form::parallel, Form::chunked, Form::recurrent})
          CHECK(relative_difference(logits_of(beside, tokens, form), expected) < 1e-5);
        const std::span<const int32_t> sequence = tokens;
        CHECK(relative_difference(forward(*beside.weights, {&sequence, 1}),
                                  forward(*in.weights, {&sequence, 1})) < 1e-5);
      }
    }
  }
}

TEST_CASE("adapters beside the weights: a batch mixes them, and each sequence has the bits it has alone") {
  if (!backend()->applies_adapters()) return;
  const Config config = config_of(2, 64, 2, 20, 40);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Model base = model_of(config, 3, dtype);
    std::vector<Model> models = {base};
    for (uint32_t seed = 1; seed <= 8; ++seed) {
      const AppliedAdapter adapter{
          random_adapter(config, seed % 3 == 0 ? std::vector<std::string>{"decoder"} : kAll, seed), 1.0};
      models.push_back(adapted(base, {&adapter, 1}));
    }
    std::vector<Session> sessions;
    std::vector<Session*> all;
    std::vector<std::vector<int32_t>> texts;
    std::vector<std::vector<float>> alone;
    for (size_t i = 0; i < models.size(); ++i) {
      sessions.emplace_back(models[i].weights);
      texts.push_back(some_tokens(10 + static_cast<int64_t>(i) * 3, config.vocab_size));
      Session session(models[i].weights);
      session.read(texts[i], in_form(Form::chunked, 64));
      alone.push_back(session.read_all(std::vector<int32_t>{1, 2, 3}, in_form(Form::recurrent)));
    }
    for (Session& session : sessions) all.push_back(&session);
    std::vector<std::span<const int32_t>> tokens(texts.begin(), texts.end());
    read_batch(all, tokens, in_form(Form::chunked, 64));
    for (const int32_t token : {1, 2, 3}) {
      const std::vector<std::span<const int32_t>> next(all.size(), std::span(&token, 1));
      const std::vector<float> logits = read_batch(all, next, in_form(Form::recurrent));
      const auto vocab = static_cast<size_t>(config.vocab_size);
      for (size_t i = 0; i < all.size(); ++i) {
        const auto from = logits.begin() + static_cast<std::ptrdiff_t>(i * vocab);
        const auto expected = alone[i].begin() + (token - 1) * config.vocab_size;
        CHECK(std::equal(from, from + static_cast<std::ptrdiff_t>(vocab), expected));
      }
    }
  }
}

TEST_CASE("adapters beside quantized weights: those of floats, rounded and then adapted") {
  if (!backend()->applies_adapters()) return;
  const Config config = config_of(2, 64, 2, 20, 40);
  const std::vector<int32_t> tokens = some_tokens(40, config.vocab_size);
  const AppliedAdapter adapter{random_adapter(config, kAll, 4), 1.0};
  for (const int64_t bits : {8, 4}) {
    const Model quantized = bdh::quantized(model_of(config), bits);
    const Model floats = merged(dequantized(quantized), {&adapter, 1});
    const std::vector<float> expected = logits_of(floats, tokens, Form::parallel);
    for (const Form form : {Form::parallel, Form::recurrent})
      CHECK(relative_difference(logits_of(adapted(quantized, {&adapter, 1}), tokens, form), expected) < 2e-4);
  }
}

TEST_CASE("adapters beside the weights: what they are is part of a kept session") {
  if (!backend()->applies_adapters()) return;
  const Config config = config_of(2, 24, 3, 8, 40);
  const Model model = model_of(config);
  const AppliedAdapter adapters[] = {{random_adapter(config, kAll, 1), 1.0},
                                     {random_adapter(config, kAll, 1), 0.5}};
  const Model one = adapted(model, {adapters, 1}), half = adapted(model, {adapters + 1, 1});
  const std::vector<int32_t> tokens = some_tokens(30, config.vocab_size);
  Session session(one.weights);
  session.read(tokens);
  const SavedSession saved = read_session(session_bytes(session.save()), "buffer");
  Session again(adapted(model, {adapters, 1}).weights);
  again.restore(saved);
  CHECK(again.read(tokens) == session.read(tokens));
  for (const Model* other : {&model, &half}) {
    Session wrong(other->weights);
    CHECK(thrown_by([&] { wrong.restore(saved, "kept"); }).says("saved from another model"));
  }
}

TEST_CASE("adapters beside the weights: what cannot be is refused") {
  const Config config = config_of(2, 24, 3, 8, 40);
  const Model model = model_of(config);
  const AppliedAdapter adapter{random_adapter(config, kAll, 1), 1.0};
  if (!model.weights->backend().applies_adapters()) {
    CHECK(thrown_by([&] { adapted(model, {&adapter, 1}); }).says("merge them"));
    return;
  }
  const Model beside = adapted(model, {&adapter, 1});
  CHECK(thrown_by([&] { adapted(beside, {&adapter, 1}); }).says("an adapter already"));
  CHECK(thrown_by([&] { beside.weights->state_dict(); }).says("merge the adapter"));
  AppliedAdapter changed{random_adapter(config_of(2, 24, 3, 16, 40), kAll, 1), 1.0};
  CHECK(thrown_by([&] { adapted(model, {&changed, 1}); }).says("made for another"));
  changed = adapter;
  changed.scale = std::numeric_limits<double>::infinity();
  CHECK(thrown_by([&] { adapted(model, {&changed, 1}); }).says("not finite"));
}
