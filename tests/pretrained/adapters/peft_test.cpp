// Adapters as PEFT saved them, with its own logits: tests/data/adapters, written by
// tests/parity/adapter_parity.py; and what is refused, by name.
#include "bdh/pretrained/adapters/peft.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/formats/safetensors.h"
#include "bdh/pretrained/quantize.h"
#include "bdh/pretrained/torch_support.h"
#include "bdh/pretrained/weight_files.h"
#include "tests/support/backends.h"
#include "tests/support/json_numbers.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using namespace bdh;
using test::numbers;
using test::TemporaryDirectory;
using test::Thrown;
using test::thrown_by;

const fs::path kAdapters = fs::path(test::kTestData) / "adapters";
constexpr double kTolerance = 1e-5;

Model base(const std::string& name) {
  LoadOptions options;
  options.device = "cpu";
  options.dtype = DType::f32;
  return Model::from_pretrained(kAdapters / name, options);
}

std::vector<float> logits_of(const Model& model, const std::vector<int32_t>& tokens) {
  return Session(model.weights).read(tokens);
}

// The adapter of the matrices of the tied model, to be changed.
struct Changed {
  TemporaryDirectory directory;
  Json config = Json::parse(test::read_file(kAdapters / "matrices" / "adapter_config.json"), "config");
  TensorMap tensors = open_weights_file(kAdapters / "matrices" / "adapter_model.safetensors").state_dict();

  Thrown loaded() const {
    directory.write("adapter_config.json", config.dump());
    write_safetensors(directory / "adapter_model.safetensors", tensors, {});
    return thrown_by([&] { load_peft_adapter(directory.path(), base("tied").config()); });
  }
};

constexpr const char* kDecoderA = "base_model.model.weights.base_layer.base_layer.lora_A.weight";

Tensor floats(Shape shape, float value) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, std::move(shape), &data);
  for (int64_t i = 0; i < tensor.numel(); ++i) reinterpret_cast<float*>(data)[i] = value;
  return tensor;
}

}  // namespace

TEST_CASE("adapters of PEFT: its logits, of every kind of target, and the base stays as it is") {
  const Json expected = Json::parse(test::read_file(kAdapters / "expected.json"), "expected.json");
  for (const Json& one : expected.as_array()) {
    const std::string name = one.find("adapter")->as_string();
    CAPTURE(name);
    if (name == "binary" && thrown_by([] { open_torch_file("none"); }).kind == ErrorKind::unsupported)
      continue;
    const Model model = base(one.find("model")->as_string());
    const auto tokens = numbers<int32_t>(*one.find("tokens"));
    const std::vector<float> before = logits_of(model, tokens), want = numbers<float>(*one.find("last"));
    const AppliedAdapter whole{load_peft_adapter(kAdapters / name, model.config())};
    const Model with = merged(model, {&whole, 1});
    CHECK(test::relative_difference(logits_of(with, tokens), want) <= kTolerance);
    CHECK(test::relative_difference(logits_of(adapted(model, {&whole, 1}), tokens), want) <= kTolerance);
    CHECK(test::relative_difference(before, want) > 1e-3);
    CHECK(logits_of(model, tokens) == before);
    const AppliedAdapter none{whole.adapter, 0}, both[] = {{whole.adapter, 0.25}, {whole.adapter, 0.75}};
    CHECK(logits_of(merged(model, {&none, 1}), tokens) == before);
    CHECK(test::relative_difference(logits_of(merged(model, both), tokens), want) <= kTolerance);
  }
}

TEST_CASE("adapters of PEFT: saved again, its file and its config") {
  for (const bool tied : {true, false}) {
    const std::string name = tied ? "matrices" : "layers";
    const Config config = base(tied ? "tied" : "untied").config();
    const LoraAdapter adapter = load_peft_adapter(kAdapters / name, config);
    const TemporaryDirectory directory;
    const int64_t rank = adapter.updates.front().rank;
    const double alpha = adapter.updates.front().scale * static_cast<double>(rank);
    save_peft_adapter(directory / "again", adapter, config, {"base", rank, alpha, false});
    const auto tensors = [](const fs::path& path) {
      return open_weights_file(path / "adapter_model.safetensors").state_dict();
    };
    CHECK(test::same_bits(tensors(directory / "again"), tensors(kAdapters / name)));
    const LoraAdapter again = load_peft_adapter(directory / "again", config);
    REQUIRE(again.updates.size() == adapter.updates.size());
    for (size_t i = 0; i < again.updates.size(); ++i) {
      CHECK(again.updates[i].parameter == adapter.updates[i].parameter);
      CHECK(again.updates[i].scale == doctest::Approx(adapter.updates[i].scale));
    }
  }
}

TEST_CASE("adapters of PEFT: saved with embedding and rsLoRA") {
  const Config config = base("tied").config();
  const LoraAdapter adapter = load_peft_adapter(kAdapters / "rslora", config);
  const TemporaryDirectory directory;
  save_peft_adapter(directory.path(), adapter, config, {"base", 4, 8, true});
  const LoraAdapter again = load_peft_adapter(directory.path(), config);
  REQUIRE(again.updates.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(again.updates[i].scale == adapter.updates[i].scale);
    CHECK(test::same_bits(again.updates[i].left, adapter.updates[i].left));
    CHECK(test::same_bits(again.updates[i].right, adapter.updates[i].right));
  }
}

TEST_CASE(
    "adapters of PEFT: one that cannot be saved leaves the old one, and one without its config is none") {
  const Config config = base("tied").config();
  const LoraAdapter adapter = load_peft_adapter(kAdapters / "rslora", config);
  const TemporaryDirectory directory;
  const fs::path weights = directory / "adapter_model.safetensors",
                 described = directory / "adapter_config.json";
  std::ofstream(weights) << "the old one's";
  fs::create_directories(described / "in the way");
  CHECK_THROWS_WITH_AS(save_peft_adapter(directory.path(), adapter, config, {"base", 4, 8, true}),
                       doctest::Contains("adapter_config.json"), Error);
  CHECK(read_text(weights, 100) == "the old one's");
  fs::remove_all(described);
  save_peft_adapter(directory.path(), adapter, config, {"base", 4, 8, true});
  fs::remove(described);
  CHECK_THROWS_WITH_AS(load_peft_adapter(directory.path(), config), doctest::Contains("adapter_config.json"),
                       Error);
}

TEST_CASE("adapters: a parameter is rounded once, to the dtype that it has") {
  const Model floats = base("tied");
  const AppliedAdapter adapter{load_peft_adapter(kAdapters / "matrices", floats.config())};
  TensorMap rounded = floats.weights->state_dict();
  for (auto& [name, tensor] : rounded)
    if (name != kFreqs) tensor = converted(tensor, DType::bf16);
  Model halves = floats;
  halves.weights = std::make_shared<Weights>(floats.config(), rounded, floats.weights->shared_backend());
  const TensorMap got = merged(halves, {&adapter, 1}).weights->state_dict();
  TensorMap widened = rounded;
  for (auto& [name, tensor] : widened) tensor = converted(tensor, DType::f64);
  Model wide = floats;
  wide.weights = std::make_shared<Weights>(floats.config(), widened, floats.weights->shared_backend());
  const TensorMap exact = merged(wide, {&adapter, 1}).weights->state_dict();
  for (const auto& named : got) {
    const std::string& name = named.first;
    CAPTURE(name);
    if (name == kFreqs) continue;
    CHECK(named.second.dtype == DType::bf16);
    CHECK(test::same_bits(named.second, converted(exact.at(name), DType::bf16)));
  }
}

TEST_CASE("adapters of PEFT: what makes another function is refused by its name") {
  const std::pair<const char*, Json> cases[] = {
      {"use_dora", true},
      {"rank_pattern", Json::Object{{"decoder", 2}}},
      {"alpha_pattern", Json::Object{{"decoder", 2}}},
      {"modules_to_save", Json::Array{"embed"}},
      {"bias", "all"},
      {"peft_type", "LOHA"},
      {"init_lora_weights", "pissa_niter_16"},
      {"layers_to_transform", 0},
      {"of_a_later_version", "something"},
  };
  for (const auto& [key, value] : cases) {
    Changed changed;
    changed.config.set(key, value);
    const Thrown thrown = changed.loaded();
    const bool named = thrown.says(key);
    CHECK_MESSAGE(named, thrown.message);
    CHECK(thrown.kind == ErrorKind::unsupported);
  }
  const Model model = base("tied");
  const AppliedAdapter adapter{load_peft_adapter(kAdapters / "matrices", model.config())};
  CHECK(thrown_by([&] { merged(quantized(model, 8), {&adapter, 1}); }).says("--dequantize"));
  const AppliedAdapter much{adapter.adapter, 1e300};
  CHECK(thrown_by([&] {
          merged(model, {&much, 1});
        }).says("'decoder' holds a number that is not finite as F32"));
}

TEST_CASE("adapters of PEFT: files that are not what they say are named") {
  const auto says = [](const Changed& changed, const char* words) {
    const Thrown thrown = changed.loaded();
    CHECK_MESSAGE(thrown.says(words), thrown.message);
    CHECK(thrown.kind == ErrorKind::bad_file);
  };
  {
    Changed changed;
    CHECK(changed.loaded().message.empty());
    changed.tensors.erase(kDecoderA);
    says(changed, "'decoder' is missing, lora_A");
  }
  {
    Changed changed;
    changed.tensors[kDecoderA] = floats({2, 9}, 0);
    says(changed, "has shape (2, 9) where this model and r want (2, 8)");
    changed.tensors[kDecoderA] = floats({2, 8}, std::numeric_limits<float>::infinity());
    says(changed, "not finite");
    std::byte* bytes = nullptr;
    changed.tensors[kDecoderA] = make_tensor(DType::i8, {2, 8}, &bytes);
    says(changed, "not a tensor of floats");
  }
  {
    Changed changed;
    changed.tensors["base_model.model.weights.base_layer.base_layer.base_layer.lora_A.weight"] =
        floats({2, 8}, 0);
    says(changed, "belongs to no parameter");
  }
  {
    Changed changed;
    changed.tensors["base_model.model.output.lora_A.default.weight"] = floats({2, 19}, 0);
    says(changed, "are both of 'lm_head'");
  }
  for (const int64_t rank : {int64_t{0}, int64_t{-1}, int64_t{1} << 40}) {
    Changed changed;
    changed.config.set("r", rank);
    says(changed, "r must be from 1 to");
  }
  Changed changed;
  changed.config.set("r", 3);
  says(changed, "where this model and r want (32, 3)");
  const TemporaryDirectory empty;
  CHECK(thrown_by([&] { load_peft_adapter(empty.path(), base("tied").config()); }).kind ==
        ErrorKind::not_found);
  empty.write("adapter_config.json", changed.config.dump());
  CHECK(thrown_by([&] {
          load_peft_adapter(empty.path(), base("tied").config());
        }).says("adapter_model.safetensors"));
  CHECK(thrown_by([&] {
          load_peft_adapter(kAdapters / "matrices", base("untied").config());
        }).says("belongs to no parameter"));
}
