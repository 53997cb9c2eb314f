// Packed weights: what is in them, the same bits as those that they were made of, run where they lie or
// copied, and state_dicts that are not what the config says.
#include "bdh/model/packed_layout.h"

#include <doctest/doctest.h>

#include <cstring>
#include <utility>

#include "bdh/base/memory.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/quantization.h"
#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;

namespace {

struct Kind {
  DType dtype;
  int64_t bits;
};
constexpr Kind kKinds[] = {
    {DType::f32, 0}, {DType::bf16, 0}, {DType::f16, 0}, {DType::f32, 8}, {DType::f32, 4}};

/// A config and its state_dict, not packed.
struct Source {
  Config config;
  TensorMap state_dict;

  Source(const Config& floats, const Kind& kind) : config(with_weight_bits(floats, kind.bits)) {
    state_dict = random_state_dict(floats, 3, kind.dtype);
    if (kind.bits != 0) state_dict = quantized(floats, state_dict, kind.bits);
  }
  TensorMap packed() const { return packed_state_dict(config, state_dict); }
  Config packed_config() const { return with_packed(config, true); }
};

std::vector<Source> sources(const Config& config) {
  std::vector<Source> all;
  for (const Kind& kind : kKinds) {
    all.emplace_back(config, kind);
    all.emplace_back(test::untied(config), kind);
  }
  return all;
}

/// The tensors as a file in memory has them, whose first byte stands `shift` bytes behind a multiple of 64.
TensorMap stored(const TensorMap& tensors, size_t shift) {
  const std::vector<std::byte> bytes = safetensors_bytes(tensors, {}, kPackedAlignment);
  const std::shared_ptr<std::byte> memory = allocate_zeroed(bytes.size() + shift, "a file");
  std::memcpy(memory.get() + shift, bytes.data(), bytes.size());
  const SafetensorsFile file =
      SafetensorsFile::of_bytes({memory.get() + shift, bytes.size()}, memory, "file in memory");
  TensorMap all;
  for (const TensorInfo& info : file.tensors()) all.emplace(info.name, file.tensor(info.name));
  return all;
}

TensorMap contiguous_tensors(TensorMap tensors) {
  for (auto& [name, tensor] : tensors) tensor = converted(tensor, tensor.dtype);
  return tensors;
}

test::WeightsPointer weights_of(const Config& config, const TensorMap& state_dict,
                                std::shared_ptr<Backend> backend = test::backend()) {
  return std::make_shared<Weights>(config, state_dict, std::move(backend), std::nullopt, "file");
}

std::vector<float> logits_of(const test::WeightsPointer& weights) {
  std::vector<float> all;
  for (const Form form : {Form::recurrent, Form::chunked, Form::parallel}) {
    Session session(weights);
    test::append(
        all, session.read_all(test::some_tokens(20, weights->config().vocab_size), test::in_form(form, 7)));
  }
  return all;
}

/// The last byte behind the numbers of the first row that has padding.
void spoil_padding(Tensor& tensor, std::byte value) {
  std::byte* data = nullptr;
  Tensor copy = make_tensor(tensor.dtype, tensor.shape, &data);
  std::memcpy(data, tensor.data, tensor.bytes());
  data[static_cast<size_t>(tensor.shape.back()) * size_of(tensor.dtype) - 1] = value;
  tensor = copy;
}

TensorMap with(TensorMap state_dict, const std::string& name, Tensor tensor) {
  state_dict[name] = std::move(tensor);
  return state_dict;
}

}  // namespace

TEST_CASE("packed layout: names and shapes are as documented") {
  const Config config = test::config_of(1, 20, 2, 8, 11);  // N 80
  const TensorMap floats = Source(config, {DType::bf16, 0}).packed();
  CHECK(floats.size() == 6);
  CHECK(floats.at("encoder.rows").shape == Shape{2, 80, 32});
  CHECK(floats.at("encoder_v.rows").shape == Shape{2, 80, 32});
  CHECK(floats.at("decoder").shape == Shape{160, 32});
  CHECK(floats.at("lm_head").shape == Shape{20, 16});
  CHECK(floats.at("embed.weight").shape == Shape{11, 20});
  CHECK(floats.at("attn.freqs").shape == Shape{1, 1, 1, 80});
  const TensorMap eight = Source(config, {DType::f32, 8}).packed();
  CHECK(eight.at("encoder").shape == Shape{2, 80, 64});
  CHECK(eight.at("encoder.scales").shape == Shape{2, 80});
  CHECK(eight.at("lm_head").shape == Shape{11, 64});
  CHECK(eight.at("embed.weight").shape == Shape{11, 64});
  const TensorMap four = Source(config, {DType::f32, 4}).packed();
  CHECK(four.at("encoder").shape == Shape{2, 80, 32});
  CHECK(four.at("encoder.scales").shape == Shape{2, 80, 2});
  CHECK(four.at("decoder.scales").shape == Shape{160, 2});
  const Source untied(test::untied(test::config_of(2, 16, 2, 4)), {DType::f32, 0});
  CHECK(untied.packed().at("encoder.1.rows").shape == Shape{2, 32, 16});
  for (const Source& source : sources(config)) {
    const TensorMap packed = source.packed();
    for (const std::pair<std::string, Shape>& parameter : parameter_shapes(source.packed_config())) {
      REQUIRE_MESSAGE(packed.contains(parameter.first), parameter.first);
      CHECK_MESSAGE(packed.at(parameter.first).shape == parameter.second, parameter.first);
    }
  }
}

TEST_CASE("packed layout: rows by hand") {
  const Config config = test::config_of(1, 4, 1, 2, 2);  // N 8
  const Source source(config, {DType::f32, 0});
  const auto columns = test::values<float>(source.state_dict.at("encoder"));
  const auto rows = test::values<float>(converted(source.packed().at("encoder.rows"), DType::f32));
  REQUIRE(rows.size() == 8 * 16);
  for (size_t j = 0; j < 8; ++j) {
    for (size_t d = 0; d < 16; ++d) CHECK(rows[j * 16 + d] == (d < 4 ? columns[d * 8 + j] : 0));
  }
}

TEST_CASE("packed layout: unpacked it is what it was, bit for bit") {
  for (const int64_t width : {16, 20, 48, 64}) {
    CAPTURE(width);
    for (const Source& source : sources(test::config_of(2, width, 2, 8, 37))) {
      CAPTURE(source.config.weight_bits);
      const TensorMap file = stored(source.packed(), 0);
      const TensorMap again = unpacked_state_dict(source.packed_config(), file, "file");
      CHECK(test::same_bits(contiguous_tensors(again), source.state_dict));
      const auto weights = weights_of(source.packed_config(), file);
      CHECK(test::same_bits(contiguous_tensors(weights->state_dict()), source.state_dict));
      CHECK(weights->hash() == weights_of(source.config, source.state_dict)->hash());
      CHECK_FALSE(weights->config().packed);
    }
  }
}

TEST_CASE("packed weights run where they lie, with the bits of those that they were made of") {
  for (const std::string& variant : test::variants()) {
    CAPTURE(variant);
    for (const int64_t width : {20, 16, 64, 112}) {
      if (test::kSlow && width != 20) break;  // packing is the host's
      for (const Source& source : sources(test::config_of(2, width, 2, 8, 37))) {
        CAPTURE(width);
        CAPTURE(source.config.weight_bits);
        const auto backend = test::backend(1, variant);
        const auto plain = weights_of(source.config, source.state_dict, backend),
                   packed = weights_of(source.packed_config(), stored(source.packed(), 0), backend);
        CHECK(logits_of(packed) == logits_of(plain));
        if (!test::kOnCuda) CHECK(packed->packed().bytes == 0);
      }
    }
  }
}

TEST_CASE("packed weights that are not aligned are copied, and give the same bits") {
  for (const Source& source : sources(test::config_of(2, 20, 2, 8, 37))) {
    CAPTURE(source.config.weight_bits);
    const auto plain = weights_of(source.config, source.state_dict);
    for (const size_t shift : {1, 8}) {
      const auto shifted = weights_of(source.packed_config(), stored(source.packed(), shift));
      CHECK(logits_of(shifted) == logits_of(plain));
      CHECK(shifted->packed().bytes > 0);
    }
  }
}

TEST_CASE("packed weights: what stands in the padding plays no part") {
  for (const Source& source : sources(test::config_of(2, 20, 2, 8, 37))) {
    CAPTURE(source.config.weight_bits);
    const auto plain = weights_of(source.config, source.state_dict);
    TensorMap spoilt = contiguous_tensors(source.packed());
    for (auto& [name, tensor] : spoilt) {
      const bool padded = name != kFreqs && (source.config.weight_bits != 0 || name != "embed.weight") &&
                          !name.ends_with(kScales);
      if (padded) spoil_padding(tensor, std::byte{0x7f});
    }
    const auto packed = weights_of(source.packed_config(), stored(spoilt, 0));
    CHECK(logits_of(packed) == logits_of(plain));
    CHECK(test::same_bits(contiguous_tensors(packed->state_dict()), source.state_dict));
  }
}

TEST_CASE("packed weights: what contradicts the config is an error that names it") {
  const Config config = test::config_of(2, 16, 2, 4, 11);
  const Source floats(config, {DType::f32, 0}), eight(config, {DType::f32, 8});
  const auto says = [](const Config& of, const TensorMap& state_dict, const char* words) {
    const test::Thrown thrown = test::thrown_by([&] { weights_of(of, state_dict); });
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK_MESSAGE(thrown.says(words), thrown.message);
  };
  const TensorMap good = contiguous_tensors(floats.packed());
  says(config, good, "'encoder.rows' says that the weights are packed, but config.json has no");
  says(floats.packed_config(), floats.state_dict, "'encoder.rows' is missing, and config.json says that");
  says(floats.packed_config(), with(good, "encoder", floats.state_dict.at("encoder")),
       "'encoder' and 'encoder.rows' are one parameter in two layouts");
  says(floats.packed_config(), with(good, "encoder.rows", floats.state_dict.at("encoder")),
       "'encoder.rows' has shape (2, 16, 32)");
  TensorMap missing = good;
  missing.erase("encoder_v.rows");
  says(floats.packed_config(), missing, "'encoder_v.rows' is missing, and config.json says that");
  says(eight.packed_config(), eight.state_dict, "'decoder' has shape (64, 16)");
  says(with_packed(with_weight_bits(config, 4), true), contiguous_tensors(eight.packed()), "has shape");
  CHECK(test::thrown_by([&] { quantized(floats.packed_config(), good, 8); }).says("is unpacked before"));
}
