// Packed model directories: those that PyTorch and the safetensors package wrote (packed_parity.py), from
// memory, and files that are not what they say.
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/packed_layout.h"
#include "bdh/pretrained/model.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;

namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& name) { return fs::path(test::kTestData) / "packed" / name; }

TensorMap tensors_of(const fs::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  TensorMap tensors;
  for (const TensorInfo& info : file.tensors()) tensors.emplace(info.name, file.tensor(info.name));
  return tensors;
}

std::vector<int32_t> tokens_of(const Tensor& tensor) {
  const auto tokens = test::values<int64_t>(tensor);
  return {tokens.begin(), tokens.end()};
}

LoadOptions on_cpu() {
  LoadOptions options;
  options.device = "cpu";
  return options;
}

/// A small packed directory whose weights files can be written anew.
struct PackedDirectory {
  test::TemporaryDirectory directory;
  fs::path file = directory / "model.safetensors";

  PackedDirectory() {
    SaveOptions options;
    options.packed = true;
    Model model;
    model.weights = test::random_weights(test::config_of(2, 16, 2, 4, 11), test::backend());
    model.save_pretrained(directory.path(), options);
  }
  void rewrite(const TensorMap& tensors, const Metadata& metadata = {{kLayoutKey, kPackedLayout}}) const {
    write_safetensors(file, tensors, metadata, {}, kPackedAlignment);
  }
  void refuses(const char* words) const {
    const test::Thrown thrown = test::thrown_by([&] { Model::from_pretrained(directory.path(), on_cpu()); });
    CHECK_MESSAGE(thrown.says(words), thrown.message);
    CHECK(thrown.says(file.filename().string()));
  }
};

}  // namespace

TEST_CASE("packed directories: as PyTorch packed them, its logits and its state_dict") {
  for (const std::string name : {"tied", "untied"}) {
    CAPTURE(name);
    const Model model = Model::from_pretrained(golden(name), on_cpu());
    CHECK(model.warnings.empty());
    CHECK(model.packed);
    for (const auto& [key, tensor] : tensors_of(golden(name) / "state_dict.safetensors"))
      CHECK(test::same_bits(converted(model.weights->state_dict().at(key), tensor.dtype), tensor));
    const TensorMap want = tensors_of(golden(name) / "logits.safetensors");
    for (const Form form : {Form::recurrent, Form::chunked, Form::parallel}) {
      Session session(model.weights);
      const auto logits = session.read_all(tokens_of(want.at("tokens")), test::in_form(form, 5));
      CHECK(test::relative_difference(logits, test::values<float>(want.at("logits"))) < 1e-5);
    }
  }
}

TEST_CASE("packed directories: the same tensors as those that PyTorch packed") {
  for (const std::string name : {"tied", "untied"}) {
    CAPTURE(name);
    const test::TemporaryDirectory directory;
    SaveOptions options;
    options.packed = true;
    Model::from_pretrained(golden(name), on_cpu()).save_pretrained(directory / "packed", options);
    CHECK(test::same_bits(tensors_of(directory / "packed" / "model.safetensors"),
                          tensors_of(golden(name) / "model.safetensors")));
  }
}

TEST_CASE("packed models in memory run where they lie") {
  const PackedDirectory packed;
  const std::string weights = test::read_file(packed.file),
                    config = test::read_file(packed.directory / "config.json");
  const Tensor aligned = test::patterned(DType::u8, {static_cast<int64_t>(weights.size())});
  auto* copy = const_cast<std::byte*>(aligned.data);
  std::memcpy(copy, weights.data(), weights.size());
  ModelBytes bytes;
  bytes.weights = {copy, weights.size()};
  bytes.config = config;
  const Model model = Model::from_memory(bytes, on_cpu());
  CHECK(model.packed);
  CHECK(model.weights->packed().bytes == 0);
}

TEST_CASE("packed directories: files that are not what they say are refused by name") {
  const PackedDirectory packed;
  TensorMap tensors;
  for (const auto& [name, tensor] : tensors_of(packed.file))
    tensors.emplace(name, converted(tensor, tensor.dtype));
  packed.rewrite(tensors, {});
  packed.refuses("config.json says that the weights are packed, but the file's metadata does not");
  packed.rewrite(tensors, {{kLayoutKey, "rows"}});
  packed.refuses("bdh.layout is 'rows'; bdh reads packed");
  TensorMap wrong = tensors;
  wrong["encoder"] = wrong.at("encoder.rows");
  packed.rewrite(wrong);
  packed.refuses("'encoder' and 'encoder.rows' are one parameter in two layouts");
  wrong.erase("encoder.rows");
  packed.rewrite(wrong);
  packed.refuses("'encoder.rows' is missing");
  for (const char* name : {"encoder.rows", "decoder", "lm_head", "embed.weight"}) {
    CAPTURE(name);
    wrong = tensors;
    wrong[name] = test::patterned(DType::f32, {2, 3, 4});
    packed.rewrite(wrong);
    packed.refuses("has shape (2, 3, 4)");
    wrong[name] = test::patterned(DType::i64, tensors.at(name).shape);
    packed.rewrite(wrong);
    packed.refuses("has dtype I64");
  }
  Model::from_pretrained(golden("tied"), on_cpu());
  packed.rewrite(tensors);
  Model::from_pretrained(packed.directory.path(), on_cpu());
  save_config(test::config_of(2, 16, 2, 4, 11), packed.directory.path());
  packed.refuses("its metadata says that the weights are packed, but config.json has no");
}
