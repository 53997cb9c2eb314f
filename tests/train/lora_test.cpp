// Adapters that are trained: which parameters, how they start, and weights with one merged in.
#include "bdh/train/lora.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bdh/train/trainer.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"
#include "tests/support/training_models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

const Config kTied = config_of(2, 8, 2, 4, 19);
const LoraOptions kAll{
    .on = true, .rank = 3, .targets = {"lm_head", "embed", "decoder", "encoder_v", "encoder"}};

std::vector<std::string> parameters_of(const Config& config, std::vector<std::string> targets) {
  std::vector<std::string> names;
  for (const LoraTarget& target : lora_targets(config, {.targets = std::move(targets)}))
    names.push_back(target.parameter);
  return names;
}

}  // namespace

TEST_CASE("targets stand for parameters, once each and in the model's order") {
  using Names = std::vector<std::string>;
  CHECK(parameters_of(kTied, {"embed", "encoder", "encoder"}) == Names{"encoder", "embed.weight"});
  CHECK(parameters_of(untied(kTied), {"encoder", "decoder.1"}) ==
        Names{"decoder.1", "encoder.0", "encoder.1"});
  const Thrown unknown = thrown_by([] { parameters_of(kTied, {"encoder", "q_proj"}); });
  CHECK(unknown.says("lora_targets: the model has no parameter 'q_proj', but decoder, encoder, encoder_v"));
  CHECK(thrown_by([] { parameters_of(kTied, {"attn.freqs"}); }).says("no parameter 'attn.freqs'"));
  CHECK(thrown_by([] { parameters_of(kTied, {}); }).says("lora_targets names no parameter"));
}

TEST_CASE("an adapter starts as PEFT's does: A uniform, B zeros, of seed and name alone") {
  const Config config = config_of(1, 64, 2, 32);
  const LoraOptions options{.on = true, .rank = 16};
  const TensorMap matrices = initial_lora(config, options, 7);
  CHECK(matrices.size() == 6);
  CHECK(matrices.at("encoder.lora_A").shape == Shape{2, 16, 1024});
  CHECK(matrices.at("encoder.lora_B").shape == Shape{2, 64, 16});
  CHECK(matrices.at("decoder.lora_A").shape == Shape{16, 64});
  for (const float number : values<float>(matrices.at("encoder.lora_B"))) CHECK(number == 0);
  const std::vector<float> a = values<float>(matrices.at("encoder.lora_A"));
  double sum = 0, squares = 0, largest = 0;
  for (const float number : a) {
    sum += number, squares += double{number} * number;
    largest = std::max(largest, std::abs(double{number}));
  }
  const auto count = static_cast<double>(a.size());
  const double bound = 1.0 / 32;  // 1 / sqrt(1024)
  CHECK(largest <= bound);
  CHECK(largest > 0.999 * bound);
  CHECK(std::abs(sum / count) < 0.01 * bound);
  CHECK(squares / count == doctest::Approx(bound * bound / 3).epsilon(0.02));
  CHECK(same_bits(matrices, initial_lora(config, options, 7)));
  CHECK_FALSE(same_bits(matrices, initial_lora(config, options, 8)));
  CHECK_FALSE(same_bits(matrices.at("encoder.lora_A"), matrices.at("encoder_v.lora_A")));
}

TEST_CASE("merged weights are base + scale B A for each head, and the rest is shared") {
  for (const Config& config : {kTied, untied(kTied)}) {
    const TensorMap base = initial_weights(config, 3), matrices = lora_matrices(config, kAll, 4);
    const TensorMap merged = merged_weights(base, matrices, 0.25);
    const std::vector<LoraTarget> targets = lora_targets(config, kAll);
    CHECK(merged.size() == targets.size() + 1);
    CHECK(merged.at("attn.freqs").data == base.at("attn.freqs").data);
    for (const LoraTarget& target : targets) {
      const auto before = values<float>(base.at(target.parameter)),
                 after = values<float>(merged.at(target.parameter));
      const auto a = values<float>(matrices.at(target.parameter + kLoraA)),
                 b = values<float>(matrices.at(target.parameter + kLoraB));
      const auto rank = static_cast<size_t>(kAll.rank), columns = static_cast<size_t>(target.shape.back());
      const auto rows = static_cast<size_t>(target.shape[target.shape.size() - 2]);
      std::vector<float> want(before.size());
      for (size_t i = 0; i < want.size(); ++i) {
        const size_t row = i / columns, head = row / rows;
        double sum = 0;
        for (size_t k = 0; k < rank; ++k)
          sum += double{b[row * rank + k]} * a[(head * rank + k) * columns + i % columns];
        want[i] = static_cast<float>(before[i] + 0.25 * sum);
      }
      CHECK(relative_difference(after, want) < 1e-6);
    }
  }
}

TEST_CASE("a base of 16 bits is merged as the float32 that it stands for") {
  TensorMap halves = initial_weights(kTied, 3), floats;
  for (auto& [name, tensor] : halves) {
    if (name != "attn.freqs") tensor = converted(tensor, DType::bf16);
    floats.emplace(name, converted(tensor, DType::f32));
  }
  const TensorMap matrices = lora_matrices(kTied, kAll, 4);
  CHECK(same_bits(merged_weights(halves, matrices, 0.5), merged_weights(floats, matrices, 0.5)));
}

TEST_CASE("matrices that do not fit, as a damaged checkpoint may have them, are named") {
  const TensorMap base = initial_weights(kTied, 3);
  for (const Shape& shape :
       {Shape{}, Shape{3}, Shape{16, 3}, Shape{2, 8, 0}, Shape{2, 9, 3}, Shape{2, 8, 4}}) {
    TensorMap matrices = lora_matrices(kTied, kAll, 4);
    std::byte* data = nullptr;
    matrices.at("encoder.lora_B") = make_tensor(DType::f32, shape, &data);
    const Thrown merging = thrown_by([&] { merged_weights(base, matrices, 1); });
    CHECK(merging.kind == ErrorKind::bad_file);
    CHECK(merging.says("encoder.lora_"));
    CHECK(thrown_by([&] { adapter_of(matrices, kTied, kAll); }).says("encoder.lora_B"));
    matrices.erase("encoder.lora_B");
    CHECK(thrown_by([&] { adapter_of(matrices, kTied, kAll); }).says("encoder.lora_B"));
  }
}

TEST_CASE("the matrices of an adapter are its matrices again, and others are refused") {
  const TensorMap matrices = lora_matrices(kTied, kAll, 4);
  const LoraAdapter adapter = adapter_of(matrices, kTied, kAll);
  CHECK(same_bits(matrices_of(adapter, kTied, kAll), matrices));
  const auto refused = [&](auto change) {
    LoraOptions options = kAll;
    change(options);
    return thrown_by([&] { matrices_of(adapter, kTied, options); });
  };
  CHECK(refused([](LoraOptions& o) { o.rank = 4; }).says("has rank 3 and scale 5.33333, the run rank 4"));
  CHECK(refused([](LoraOptions& o) { o.rslora = true; }).says("give lora_rank, lora_alpha and lora_rslora"));
  CHECK(refused([](LoraOptions& o) { o.targets.pop_back(); }).says("changes 'encoder', which lora_targets"));
  LoraAdapter less = adapter;
  less.updates.pop_back();
  CHECK(thrown_by([&] { matrices_of(less, kTied, kAll); }).says("changes 4 parameters, the run 5"));
}
