// Quantized weights: rounding and back, models that run on them, and files that are not what they say.
#include "bdh/model/quantization.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;

namespace {

const Config kTiny = test::config_of(2, 16, 2, 4, 11);

test::WeightsPointer weights_of(const Config& config, const TensorMap& state_dict,
                                std::shared_ptr<Backend> backend = test::backend(),
                                std::optional<DType> dtype = {}) {
  return std::make_shared<Weights>(config, state_dict, std::move(backend), dtype, "file");
}

TensorMap with(TensorMap state_dict, const std::string& name, Tensor tensor) {
  state_dict[name] = std::move(tensor);
  return state_dict;
}

Tensor of_shape(DType dtype, Shape shape) {
  std::byte* data = nullptr;
  return make_tensor(dtype, std::move(shape), &data);
}

Tensor halves(Shape shape, size_t at, uint16_t bits) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f16, std::move(shape), &data);
  std::memcpy(data + 2 * at, &bits, sizeof bits);
  return tensor;
}

/// The largest difference in units of what the row's, or group's, largest number allows a rounding to be off.
double worst_rounding(const Config& config, int64_t bits, double allowed) {
  const TensorMap exact = random_state_dict(config, 5);
  const TensorMap rounded = dequantized(with_weight_bits(config, bits), quantized(config, exact, bits));
  double worst = 0;
  for (const auto& [name, tensor] : exact) {
    const auto a = test::values<float>(tensor), b = test::values<float>(rounded.at(name));
    if (name == kFreqs) {
      CHECK(a == b);
      continue;
    }
    REQUIRE(tensor.shape == rounded.at(name).shape);
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - b[i]) / allowed);
  }
  return worst;
}

std::vector<float> logits_in(const test::WeightsPointer& weights, Form form) {
  Session session(weights);
  return session.read_all(test::some_tokens(test::unless_slow(40, 12), weights->config().vocab_size),
                          test::in_form(form, 7));
}

/// Logits of quantized weights against those of the floats that they stand for, in every form.
double difference_from_floats(const Config& config, int64_t bits, const std::string& variant, int threads) {
  const Config small = with_weight_bits(config, bits);
  const TensorMap state_dict = quantized(config, random_state_dict(config, 3), bits);
  const auto backend = test::backend(threads, variant);
  const auto weights = weights_of(small, state_dict, backend);
  const auto floats = weights_of(config, dequantized(small, state_dict), backend);
  double worst = 0;
  for (const Form form : {Form::recurrent, Form::chunked, Form::parallel}) {
    worst = std::max(worst, test::relative_difference(logits_in(weights, form), logits_in(floats, form)));
  }
  return worst;
}

}  // namespace

TEST_CASE("quantization: numbers come back within half a step") {
  constexpr double kLargest = 0.02 * 5;  // of normal(0, 0.02) numbers
  for (const int64_t width : {16, 48, 64, 80}) {
    CAPTURE(width);
    for (const Config& config :
         {test::config_of(2, width, 2, 4, 11), test::untied(test::config_of(2, width, 2, 4, 11))}) {
      CHECK(worst_rounding(config, 8, kLargest / 127 / 2) < 1.01);
      CHECK(worst_rounding(config, 4, kLargest / 7) < 1.01);
    }
  }
}

TEST_CASE("quantization: names, dtypes and shapes are as documented") {
  const Config config = test::config_of(1, 48, 2, 4, 11);  // N 96
  const TensorMap eight = quantized(config, random_state_dict(config, 1), 8);
  CHECK(eight.size() == 11);
  CHECK(eight.at("encoder").dtype == DType::i8);
  CHECK(eight.at("encoder").shape == Shape{2, 96, 48});
  CHECK(eight.at("encoder.scales").dtype == DType::f16);
  CHECK(eight.at("encoder.scales").shape == Shape{2, 96});
  CHECK(eight.at("decoder").shape == Shape{192, 48});
  CHECK(eight.at("lm_head").shape == Shape{11, 48});
  CHECK(eight.at("embed.weight.scales").shape == Shape{11});
  const TensorMap four = quantized(config, random_state_dict(config, 1), 4);
  CHECK(four.at("encoder_v").dtype == DType::u8);
  CHECK(four.at("encoder_v").shape == Shape{2, 96, 32});
  CHECK(four.at("encoder_v.scales").shape == Shape{2, 96, 2});
  CHECK(four.at("lm_head.scales").shape == Shape{11, 2});
}

TEST_CASE("quantization: a row by hand") {
  const Config config = test::config_of(1, 4, 1, 2, 2);
  TensorMap floats = random_state_dict(config, 1);
  std::byte* data = nullptr;
  Tensor embed = make_tensor(DType::f32, {2, 4}, &data);
  const float numbers[] = {1.0f, -2.0f, 0.5f, 254.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  std::memcpy(data, numbers, sizeof numbers);
  floats["embed.weight"] = embed;
  const TensorMap eight = quantized(config, floats, 8);
  CHECK(test::values<int8_t>(eight.at("embed.weight")) == std::vector<int8_t>{0, -1, 0, 127, 0, 0, 0, 0});
  CHECK(test::values<uint16_t>(eight.at("embed.weight.scales")) == std::vector<uint16_t>{f32_to_f16(2), 0});
  const TensorMap four = quantized(config, floats, 4);
  const auto bytes = test::values<uint8_t>(four.at("embed.weight"));
  CHECK(bytes[0] == 0x88);
  CHECK((bytes[3] & 15) == 0);  // -8 times a scale below 0
  CHECK(bytes[4] == 0x88);
  CHECK(f16_to_f32(test::values<uint16_t>(four.at("embed.weight.scales"))[0]) ==
        doctest::Approx(-254.0 / 8).epsilon(0.15));
}

TEST_CASE("quantization: numbers that cannot be rounded are refused by name") {
  const TensorMap good = random_state_dict(kTiny, 1);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e9f}) {
    std::byte* data = nullptr;
    Tensor decoder = make_tensor(DType::f32, good.at("decoder").shape, &data);
    std::memcpy(data + 40, &bad, sizeof bad);
    for (const int64_t bits : {8, 4})
      CHECK(
          test::thrown_by([&] { quantized(kTiny, with(good, "decoder", decoder), bits); }).says("'decoder'"));
  }
  CHECK(test::thrown_by([&] { quantized(kTiny, good, 5); }).says("8 or 4 bits, not 5"));
  CHECK(test::thrown_by([&] { quantized(with_weight_bits(kTiny, 8), good, 4); }).says("8 bits already"));
  CHECK(test::thrown_by([&] { dequantized(kTiny, good); }).says("not quantized"));
}

TEST_CASE("quantized models give the logits of the floats that they stand for, in every form") {
  for (const std::string& variant : test::variants()) {
    for (const int64_t bits : {8, 4}) {
      for (const int64_t width : {16, 48, 64, 128}) {
        if (test::kSlow && width > 64) continue;
        CAPTURE(variant);
        CAPTURE(bits);
        CAPTURE(width);
        const Config config = test::config_of(2, width, 2, 8, 37);
        // A GPU's chunks multiply bfloat16, where the model is no smaller than a tile.
        const double tolerance = test::kOnCuda && width >= 64 ? test::kHalfTolerance : 3e-4;
        CHECK(difference_from_floats(config, bits, variant, 1) < tolerance);
        if (test::kSlow && width > 16) continue;
        CHECK(difference_from_floats(test::untied(config), bits, variant, 1) < tolerance);
      }
    }
  }
}

TEST_CASE("quantized models give the same bits on any number of threads, and after a session is kept") {
  const Config config = test::config_of(2, 64, 2, test::unless_slow(32, 4), test::unless_slow(300, 50));
  for (const int64_t bits : {8, 4}) {
    CAPTURE(bits);
    const Config small = with_weight_bits(config, bits);
    const TensorMap state_dict = quantized(config, random_state_dict(config, 3), bits);
    const auto one = weights_of(small, state_dict);
    for (const int threads : test::thread_counts()) {
      const auto many = weights_of(small, state_dict, test::backend(threads));
      for (const Form form : {Form::recurrent, Form::chunked})
        CHECK(logits_in(many, form) == logits_in(one, form));
    }
    Session session(one), restored(one);
    session.read(test::some_tokens(20, config.vocab_size));
    restored.restore(session.save(), "session");
    const std::vector<int32_t> next{7};
    CHECK(session.read(next) == restored.read(next));
  }
}

TEST_CASE("quantized weights: what a last group of 4 bits has beyond D plays no part") {
  const Config config = test::config_of(1, 20, 1, 2, 11);
  TensorMap spoilt = quantized(config, random_state_dict(config, 3), 4);
  const auto clean = weights_of(with_weight_bits(config, 4), spoilt);
  for (auto& [name, tensor] : spoilt) {
    if (tensor.dtype != DType::u8) continue;
    std::byte* bytes = nullptr;
    Tensor other = make_tensor(DType::u8, tensor.shape, &bytes);
    for (size_t i = 0; i < tensor.bytes(); ++i)  // the upper half of byte j is number j + 16
      bytes[i] = tensor.data[i] | std::byte(i % 16 < 4 ? 0 : 0xf0);
    tensor = other;
  }
  const auto same = weights_of(with_weight_bits(config, 4), spoilt);
  for (const Form form : {Form::recurrent, Form::parallel})
    CHECK(logits_in(same, form) == logits_in(clean, form));
}

TEST_CASE("quantized weights: what contradicts the config is an error that names it") {
  const Config eight = with_weight_bits(kTiny, 8), four = with_weight_bits(kTiny, 4);
  const TensorMap floats = random_state_dict(kTiny, 1), good = quantized(kTiny, floats, 8),
                  good4 = quantized(kTiny, floats, 4);
  const auto says = [](const Config& config, const TensorMap& state_dict, const char* words) {
    const test::Thrown thrown = test::thrown_by([&] { weights_of(config, state_dict); });
    CHECK_MESSAGE(thrown.says(words), thrown.message);
  };
  TensorMap missing = good;
  missing.erase("lm_head.scales");
  says(eight, missing, "'lm_head.scales' is missing");
  says(kTiny, good, "config.json has no quantization_config");
  says(eight, floats, "'encoder.scales' is missing, and config.json's quantization_config asks for it");
  says(eight, with(good, "encoder.scales", of_shape(DType::f16, {2, 31})),
       "'encoder.scales' has shape (2, 31), but config.json makes it (2, 32)");
  says(four, with(good4, "decoder.scales", of_shape(DType::f16, {64, 2})),
       "'decoder.scales' has shape (64, 2)");
  says(eight, with(good, "encoder", of_shape(DType::i8, {2, 16, 32})), "'encoder' has shape (2, 16, 32)");
  says(eight, good4, "has shape");
  says(eight, with(good, "decoder", floats.at("decoder")), "'decoder' has dtype F32, but config.json's");
  says(eight, with(good, "decoder.scales", of_shape(DType::f32, {64})), "'decoder.scales' has dtype F32");
  for (const int bad : {0x7c00, 0xfc00, 0x7e01}) {
    says(eight, with(good, "decoder.scales", halves({64}, 63, static_cast<uint16_t>(bad))),
         "NaN or infinite, at 63");
  }
  CHECK(test::thrown_by([&] {
          weights_of(eight, good, test::backend(), DType::bf16);
        }).says("bdh convert --dequantize"));
}
