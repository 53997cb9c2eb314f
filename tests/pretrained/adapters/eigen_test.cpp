// Eigenvectors: of matrices whose own are known, of random ones by what defines them, and of degenerate ones.
#include "bdh/pretrained/adapters/eigen.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace {

using bdh::Eigenvectors;
using bdh::symmetric_eigenvectors;

// A V = V diag(values) and V V^T = 1: the largest difference of both.
double error_of(const std::vector<double>& matrix, const Eigenvectors& eigen, size_t size) {
  double worst = 0;
  const std::vector<double>& v = eigen.vectors;
  for (size_t i = 0; i < size; ++i) {
    for (size_t j = 0; j < size; ++j) {
      double product = 0, overlap = 0;
      for (size_t k = 0; k < size; ++k) {
        product += matrix[j * size + k] * v[i * size + k];
        overlap += v[i * size + k] * v[j * size + k];
      }
      worst = std::max(worst, std::abs(product - eigen.values[i] * v[i * size + j]));
      worst = std::max(worst, std::abs(overlap - (i == j ? 1 : 0)));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("eigenvectors of random symmetric matrices are what defines them") {
  std::mt19937_64 bits(3);
  std::normal_distribution<double> normal;
  for (const size_t size : {1, 2, 3, 17, 60}) {
    CAPTURE(size);
    std::vector<double> matrix(size * size);
    for (size_t i = 0; i < size; ++i)
      for (size_t j = 0; j <= i; ++j) matrix[i * size + j] = matrix[j * size + i] = normal(bits);
    const Eigenvectors eigen = symmetric_eigenvectors(matrix, size);
    CHECK(std::is_sorted(eigen.values.rbegin(), eigen.values.rend()));
    CHECK(error_of(matrix, eigen, size) < 1e-12 * static_cast<double>(size));
  }
}

TEST_CASE("eigenvectors of matrices with values that are equal, or zero") {
  const std::vector<double> zeros(9), ones{1, 1, 1, 1, 1, 1, 1, 1, 1}, identity{1, 0, 0, 0, 1, 0, 0, 0, 1};
  CHECK(symmetric_eigenvectors(zeros, 3).values == std::vector<double>(3));
  CHECK(symmetric_eigenvectors(identity, 3).vectors == identity);
  const Eigenvectors of_ones = symmetric_eigenvectors(ones, 3);
  CHECK(of_ones.values[0] == doctest::Approx(3));
  CHECK(std::abs(of_ones.values[1]) + std::abs(of_ones.values[2]) < 1e-12);
  CHECK(error_of(ones, of_ones, 3) < 1e-12);
}
