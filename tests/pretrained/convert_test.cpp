// Weights files without a model around them: listed, and from PyTorch's form to safetensors.
#include "bdh/pretrained/convert.h"

#include <doctest/doctest.h>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"

namespace {

using bdh::TensorMap;
using bdh::test::same_bits;
using bdh::test::TemporaryDirectory;
using bdh::test::tiny_config;

}  // namespace

TEST_CASE("safetensors: tensors and metadata by a path alone") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const auto tensors = bdh::list_tensors(directory / "model.safetensors");
  REQUIRE(tensors.size() == 6);
  CHECK(tensors.front().begin == 0);
  CHECK(bdh::read_metadata(directory / "model.safetensors").at("format_version") == "1");
  CHECK_THROWS_AS(bdh::list_tensors(directory / "config.json"), bdh::Error);
}

TEST_CASE("convert_weights: weights for each layer, and the frequencies they lack") {
  TemporaryDirectory directory;
  TensorMap tensors = bdh::random_state_dict(bdh::test::untied(tiny_config()), 3);
  const bdh::Tensor freqs = tensors.extract("attn.freqs").mapped();
  bdh::write_safetensors(directory / "a.safetensors", tensors, {});
  bdh::convert_weights(bdh::open_weights_file(directory / "a.safetensors"), directory / "b.safetensors");
  const auto file = bdh::SafetensorsFile::open(directory / "b.safetensors");
  CHECK(file.tensors().size() == tensors.size() + 1);
  CHECK(same_bits(file.tensor("attn.freqs"), freqs));
  CHECK(same_bits(file.tensor("encoder_v.1"), tensors.at("encoder_v.1")));
}

#ifdef BDH_TORCH
TEST_CASE("convert_torch_to_safetensors: the same bits under plain names") {
  TemporaryDirectory directory;
  const TensorMap tensors = bdh::random_state_dict(tiny_config(), 3);
  TensorMap prefixed;
  for (const auto& [name, tensor] : tensors) prefixed["_orig_mod." + name] = tensor;
  bdh::write_torch_file(directory / "model.bin", prefixed);
  bdh::convert_torch_to_safetensors(directory / "model.bin", directory / "model.safetensors");
  const auto file = bdh::SafetensorsFile::open(directory / "model.safetensors");
  CHECK(file.tensors().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) CHECK(same_bits(file.tensor(name), tensor));
  CHECK_THROWS_AS(bdh::convert_torch_to_safetensors(directory / "model.bin", directory / "model.pt"),
                  bdh::Error);
}
#endif
