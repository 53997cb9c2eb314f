// Adapters with matrices for every head: PyTorch's own logits (tests/data/adapters, written by
// tests/parity/adapter_parity.py), the same adapter in every form a file has it, and what is refused by name.
#include "bdh/pretrained/adapters/by_head.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/pretrained/adapters/load_adapter.h"
#include "bdh/pretrained/torch_support.h"
#include "bdh/pretrained/weight_files.h"
#include "tests/support/json_numbers.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using namespace bdh;
using test::TemporaryDirectory;
using test::Thrown;
using test::thrown_by;

const fs::path kAdapters = fs::path(test::kTestData) / "adapters";

Model base() {
  LoadOptions options;
  options.device = "cpu";
  options.dtype = DType::f32;
  return Model::from_pretrained(kAdapters / "tied", options);
}

TensorMap tensors_of_file() { return open_weights_file(kAdapters / "heads.safetensors").state_dict(); }

bool reads_torch() {
  return thrown_by([] { open_torch_file("none"); }).kind != ErrorKind::unsupported;
}

std::vector<float> logits_with(const fs::path& file) {
  const Model model = base();
  const AppliedAdapter adapter{load_adapter(file, model.config())};
  return Session(merged(model, {&adapter, 1}).weights).read(std::vector<int32_t>{3, 1, 4, 1, 5});
}

// The file of tests/data, changed.
struct Changed {
  TemporaryDirectory directory;
  TensorMap tensors = tensors_of_file();

  Thrown loaded() const {
    write_safetensors(directory / "changed.safetensors", tensors, {});
    return thrown_by([&] { load_adapter(directory / "changed.safetensors", base().config()); });
  }
};

void says(const Changed& changed, ErrorKind kind, const char* part) {
  const Thrown thrown = changed.loaded();
  CHECK(thrown.kind == kind);
  CHECK(thrown.message.find(part) != std::string::npos);
}

// {encoder: {lora_A, lora_B, scaling, ...}, ...}, as Python writes it.
TorchDict nested(const TensorMap& tensors, const TorchDict& more) {
  TorchDict all;
  for (const char* parameter : {"encoder", "encoder_v", "decoder"}) {
    const auto of = [&](const char* key) { return tensors.at(concat(parameter, ".", key)); };
    const double scaling = *reinterpret_cast<const float*>(of("scaling").data);
    TorchDict one{{"lora_A", of("lora_A")}, {"lora_B", of("lora_B")}, {"scaling", scaling}};
    one.insert(one.end(), more.begin(), more.end());
    all.emplace_back(parameter, one);
  }
  return all;
}

}  // namespace

TEST_CASE("adapters by head: PyTorch's logits, and the same in every form of the file") {
  const Json expected =
      Json::parse(test::read_file(kAdapters / "expected_heads.json"), "expected_heads.json");
  const Model model = base();
  const AppliedAdapter adapter{load_adapter(kAdapters / "heads.safetensors", model.config())};
  const auto tokens = test::numbers<int32_t>(*expected.find("tokens"));
  const std::vector<float> got = Session(merged(model, {&adapter, 1}).weights).read(tokens);
  CHECK(test::relative_difference(got, test::numbers<float>(*expected.find("last"))) <= 1e-5);

  if (!reads_torch()) return;
  CHECK(logits_with(kAdapters / "heads.pt") == logits_with(kAdapters / "heads.safetensors"));
  const TemporaryDirectory directory;
  TorchDict flat;
  for (const auto& [name, tensor] : tensors_of_file()) {
    if (name.ends_with("scaling")) {
      flat.emplace_back(name, static_cast<double>(*reinterpret_cast<const float*>(tensor.data)));
    } else {
      flat.emplace_back(name, tensor);
    }
  }
  flat.emplace_back("step", int64_t{7});
  save_torch_value(directory / "flat.pt", flat);
  CHECK(logits_with(directory / "flat.pt") == logits_with(kAdapters / "heads.safetensors"));
  const TorchDict optimizer{{"exp_avg", tensors_of_file().begin()->second}};
  save_torch_value(directory / "wrapped.pt", TorchDict{{"state_dict", flat}, {"optimizer", optimizer}});
  CHECK(logits_with(directory / "wrapped.pt") == logits_with(kAdapters / "heads.safetensors"));
  save_torch_value(directory / "noted.pt", nested(tensors_of_file(), {{"alpha", 4.0}, {"r", int64_t{2}}}));
  CHECK(logits_with(directory / "noted.pt") == logits_with(kAdapters / "heads.safetensors"));
}

TEST_CASE("adapters by head: what is missing, wrong or another function is named") {
  for (const char* key : {"lora_A", "lora_B", "scaling"}) {
    Changed changed;
    changed.tensors.erase(concat("encoder_v.", key));
    says(changed, ErrorKind::bad_file, concat("encoder_v.", key, " is missing").c_str());
  }
  {
    Changed changed;
    changed.tensors["encoder.lora_A"] = changed.tensors["encoder.lora_B"];
    says(changed, ErrorKind::bad_file, "encoder.lora_A");
  }
  {
    Changed changed;
    changed.tensors["encoders.lora_A"] = changed.tensors["encoder.lora_A"];
    says(changed, ErrorKind::bad_file, "'encoders.lora_A' belongs to no parameter");
  }
  {
    Changed changed;
    changed.tensors["encoder.magnitude"] = changed.tensors["encoder.scaling"];
    says(changed, ErrorKind::bad_file, "neither lora_A, lora_B nor scaling");
  }
  {
    Changed changed;
    std::byte* data = nullptr;
    Tensor scaling = make_tensor(DType::f32, {1}, &data);
    *reinterpret_cast<float*>(data) = NAN;
    changed.tensors["encoder.scaling"] = scaling;
    says(changed, ErrorKind::bad_file, "not finite");
    changed.tensors["encoder.scaling"] = changed.tensors["encoder.lora_A"];
    says(changed, ErrorKind::bad_file, "is not one number");
  }
  {
    Changed changed;
    changed.tensors.clear();
    says(changed, ErrorKind::bad_file, "no tensor in it");
  }
  CHECK(thrown_by([] { load_adapter("/nowhere/at/all", base().config()); }).kind == ErrorKind::not_found);
  if (!reads_torch()) return;
  const TemporaryDirectory directory;
  save_torch_value(directory / "dora.pt", nested(tensors_of_file(), {{"use_dora", true}}));
  const Thrown dora = thrown_by([&] { load_adapter(directory / "dora.pt", base().config()); });
  CHECK(dora.kind == ErrorKind::unsupported);
  CHECK(dora.message.find("use_dora") != std::string::npos);
  save_torch_value(directory / "text.pt", TorchDict{{"encoder", "nothing"}});
  CHECK(thrown_by([&] { load_adapter(directory / "text.pt", base().config()); }).kind ==
        ErrorKind::unsupported);
}
