// Shapes, strides, copies and conversions of tensors.
#include "bdh/base/tensor.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/support/thrown.h"

using namespace bdh;
using test::thrown_by;

namespace {

// 0, 1, 2, ... in that shape.
Tensor counting(Shape shape) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, std::move(shape), &data);
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  std::iota(values.begin(), values.end(), 0.0f);
  if (!values.empty()) std::memcpy(data, values.data(), tensor.bytes());
  return tensor;
}

template <class Element>
std::vector<Element> elements(const Tensor& tensor) {
  std::vector<Element> values(static_cast<size_t>(tensor.numel()));
  copy_row_major(tensor, 0, tensor.numel(), reinterpret_cast<std::byte*>(values.data()));
  return values;
}

}  // namespace

TEST_CASE("tensor: element counts and byte sizes") {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  CHECK(element_count({}) == 1);
  CHECK(element_count({4, 0, 3}) == 0);
  CHECK(element_count({4, 128, 1024}) == 524288);
  CHECK(element_count({kMax, 1}) == kMax);
  CHECK(thrown_by([] { element_count({4, -1}); }).says("negative"));
  CHECK(thrown_by([] { element_count({kMax, 2}); }).says("more elements"));
  CHECK(thrown_by([] {
          element_count({int64_t{1} << 32, int64_t{1} << 32});
        }).kind == ErrorKind::invalid_argument);
  CHECK(element_count({0, kMax, kMax}) == 0);
  CHECK(contiguous_strides({kMax, kMax, 0}).size() == 3);
  CHECK(byte_size(DType::f64, {3, 5}) == 120);
  CHECK(thrown_by([] { byte_size(DType::f64, {int64_t{1} << 60}); }).says("more bytes"));
  CHECK(thrown_by([] { byte_size(DType::u8, {kMax}); }).message.empty());
}

TEST_CASE("tensor: strides and contiguity") {
  CHECK(contiguous_strides({}) == Shape{});
  CHECK(contiguous_strides({2, 3, 4}) == Shape{12, 4, 1});
  CHECK(to_string(Shape{4, 128, 1024}) == "(4, 128, 1024)");
  CHECK(to_string(Shape{}) == "()");
  Tensor tensor = counting({2, 3});
  CHECK(tensor.contiguous());
  std::swap(tensor.shape[0], tensor.shape[1]);
  std::swap(tensor.strides[0], tensor.strides[1]);
  CHECK_FALSE(tensor.contiguous());
  Tensor column = counting({5, 1});
  column.strides = {1, 77};  // a dimension of one element may have any stride
  CHECK(column.contiguous());
  CHECK(counting({}).contiguous());
  CHECK(counting({0, 3}).contiguous());
}

TEST_CASE("tensor: new memory is zero and aligned") {
  std::byte* data = nullptr;
  const Tensor tensor = make_tensor(DType::f16, {3, 5}, &data);
  CHECK(tensor.bytes() == 30);
  CHECK(tensor.data == data);
  CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
  CHECK(elements<uint16_t>(tensor) == std::vector<uint16_t>(15));
  CHECK(thrown_by([&] { make_tensor(DType::u8, {int64_t{1} << 62}, &data); }).kind ==
        ErrorKind::out_of_memory);
}

TEST_CASE("tensor: a transposed view is copied in row-major order, whole or in part") {
  Tensor view = counting({2, 3, 4});
  view.shape = {4, 2, 3};
  view.strides = {1, 12, 4};
  std::vector<float> expected;
  for (int k = 0; k < 4; ++k) {
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 3; ++j) expected.push_back(static_cast<float>(12 * i + 4 * j + k));
    }
  }
  CHECK(elements<float>(view) == expected);
  for (int64_t first = 0; first <= 24; ++first) {
    for (int64_t count = 0; first + count <= 24; ++count) {
      std::vector<float> part(static_cast<size_t>(count));
      copy_row_major(view, first, count, reinterpret_cast<std::byte*>(part.data()));
      REQUIRE(part == std::vector<float>(expected.begin() + first, expected.begin() + first + count));
    }
  }
}

TEST_CASE("tensor: rows with gaps and rows read again and again") {
  Tensor rows = counting({3, 4});
  rows.shape = {3, 2};
  CHECK(elements<float>(rows) == std::vector<float>{0, 1, 4, 5, 8, 9});
  Tensor repeated = counting({2});
  repeated.shape = {2, 2};
  repeated.strides = {0, 1};
  CHECK(elements<float>(repeated) == std::vector<float>{0, 1, 0, 1});
}

TEST_CASE("tensor: conversion shares memory when nothing changes") {
  const Tensor tensor = counting({2, 3});
  CHECK(converted(tensor, DType::f32).data == tensor.data);
  const Tensor half = converted(tensor, DType::bf16);
  CHECK(half.dtype == DType::bf16);
  CHECK(half.shape == tensor.shape);
  CHECK(elements<float>(converted(half, DType::f32)) == elements<float>(tensor));
}

TEST_CASE("tensor: a view larger than a chunk converts whole") {
  Tensor view = counting({100, 210});
  view.shape = {210, 100};
  view.strides = {1, 210};
  const Tensor wide = converted(view, DType::f64);
  CHECK(wide.contiguous());
  const std::vector<double> values = elements<double>(wide);
  int wrong = 0;
  for (size_t i = 0; i < values.size(); ++i)
    wrong += values[i] != static_cast<double>(i % 100 * 210 + i / 100);
  CHECK(wrong == 0);
  CHECK(elements<float>(converted(view, DType::f32)) == elements<float>(view));
}

TEST_CASE("tensor: what is not in CPU memory is not read") {
  Tensor tensor = counting({2});
  tensor.device.kind = Device::Kind::cuda;
  CHECK(thrown_by([&] { converted(tensor, DType::f16); }).kind == ErrorKind::invalid_argument);
}
