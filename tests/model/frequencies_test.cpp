// Frequencies of rotation: the formula's values, and what is restored of those a file holds in 16 bits.
#include "bdh/model/frequencies.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace bdh;

namespace {

Tensor tensor_of(const std::vector<float>& values, DType dtype = DType::f32) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, {1, 1, 1, static_cast<int64_t>(values.size())}, &data);
  std::memcpy(data, values.data(), values.size() * sizeof(float));
  return converted(tensor, dtype);
}

std::vector<float> joined(std::vector<float> first, const std::vector<float>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// asb-42/bdh, grown from 32 to 48 neurons: what its float32 file holds behind the formula's 32.
const std::vector<float> kGrown{
    0.0019516352331265807f,  0.0019516352331265807f,  0.0011384721146896482f,  0.0011384721146896482f,
    0.0006216989713720977f,  0.0006216989713720977f,  0.00031525493250228465f, 0.00031525493250228465f,
    0.00014710523828398436f, 0.00014710523828398436f, 6.252512685023248e-05f,  6.252512685023248e-05f,
    2.393190334259998e-05f,  2.393190334259998e-05f,  8.14375471236417e-06f,   8.14375471236417e-06f};

}  // namespace

TEST_CASE("rotation: pairs share a frequency, from 1/(2 pi) down by powers of 65536") {
  const std::vector<float> f = rotation_frequencies(32);
  REQUIRE(f.size() == 32);
  CHECK(f[0] == 0.15915494f);
  CHECK(f[16] == 0.15915494f / 256);  // 65536^(-1/2)
  CHECK(f[8] == 0.15915494f / 16);
  for (size_t i = 0; i < f.size(); i += 2) CHECK(f[i] == f[i + 1]);
  for (size_t i = 2; i < f.size(); i += 2) CHECK(f[i] < f[i - 1]);
}

TEST_CASE("rotation: PyTorch's float32 values, for a size that is no power of two") {
  // python: 1.0 / (65536 ** (torch.tensor([0, 2, 4]) / 6)) / (2 * math.pi), printed as exact float32
  const std::vector<float> f = rotation_frequencies(6);
  CHECK(f[0] == 0.15915493667125702f);
  CHECK(f[2] == 0.0039475420489907265f);
  CHECK(f[4] == 9.791143384063616e-05f);
}

TEST_CASE("rotation: 16-bit frequencies of the formula are restored, whatever the size") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const int64_t neurons : {2, 6, 32, 1000}) {
      const std::vector<float> formula = rotation_frequencies(neurons);
      CHECK(stored_frequencies(tensor_of(formula, dtype)) == formula);
    }
  }
}

TEST_CASE("rotation: those of merged and grown models too") {
  const std::vector<float> half = rotation_frequencies(32);
  const std::vector<float> merged = joined(half, half);
  const std::vector<float> grown = joined(half, kGrown);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    CHECK(stored_frequencies(tensor_of(merged, dtype)) == merged);
    const std::vector<float> restored = stored_frequencies(tensor_of(grown, dtype));
    for (size_t i = 0; i < grown.size(); ++i) CHECK(restored[i] == doctest::Approx(grown[i]).epsilon(1e-6));
  }
}

TEST_CASE("rotation: all others stay as they are stored, negative ones and pairs that differ too") {
  std::vector<float> trained = rotation_frequencies(16);
  trained[3] = -0.25f;
  trained[7] *= 1.5f;
  CHECK(stored_frequencies(tensor_of(trained)) == trained);
  const Tensor rounded = tensor_of(trained, DType::bf16);
  const Tensor back = converted(rounded, DType::f32);
  CHECK(std::memcmp(stored_frequencies(rounded).data(), back.data, back.bytes()) == 0);
  CHECK(stored_frequencies(tensor_of(trained, DType::f64)) == trained);
}
