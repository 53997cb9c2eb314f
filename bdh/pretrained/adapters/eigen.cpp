// Cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, section 8.5).
#include "bdh/pretrained/adapters/eigen.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace bdh {

namespace {

constexpr int kMostSweeps = 60;  // some ten are usual
constexpr double kNothing = 1e-15;

struct Rotation {
  double cosine, sine;
};

// That makes element (p, q) zero.
Rotation rotation_of(double at_p, double at_q, double between) {
  const double tau = (at_q - at_p) / (2 * between);
  const double tangent = (tau >= 0 ? 1 : -1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
  const double cosine = 1 / std::sqrt(1 + tangent * tangent);
  return {cosine, tangent * cosine};
}

// `count` pairs of numbers, `stride` apart.
void rotate(const Rotation& rotation, double* p, double* q, size_t count, size_t stride) {
  for (size_t i = 0; i < count * stride; i += stride) {
    const double at_p = p[i], at_q = q[i];
    p[i] = rotation.cosine * at_p - rotation.sine * at_q;
    q[i] = rotation.sine * at_p + rotation.cosine * at_q;
  }
}

// False where nothing is left to be made zero.
bool sweep(std::vector<double>& matrix, std::vector<double>& vectors, size_t size, double least) {
  bool rotated = false;
  double* m = matrix.data();
  for (size_t p = 0; p + 1 < size; ++p) {
    for (size_t q = p + 1; q < size; ++q) {
      if (std::abs(m[p * size + q]) <= least) continue;
      const Rotation rotation = rotation_of(m[p * size + p], m[q * size + q], m[p * size + q]);
      rotate(rotation, m + p * size, m + q * size, size, 1);
      rotate(rotation, m + p, m + q, size, size);
      rotate(rotation, vectors.data() + p * size, vectors.data() + q * size, size, 1);
      rotated = true;
    }
  }
  return rotated;
}

}  // namespace

Eigenvectors symmetric_eigenvectors(std::vector<double> matrix, size_t size) {
  std::vector<double> vectors(size * size);
  double trace = 0;
  for (size_t i = 0; i < size; ++i) {
    vectors[i * size + i] = 1;
    trace += std::abs(matrix[i * size + i]);
  }
  int sweeps = 0;
  while (sweeps < kMostSweeps && sweep(matrix, vectors, size, kNothing * trace)) ++sweeps;
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return matrix[a * size + a] > matrix[b * size + b]; });
  Eigenvectors sorted;
  for (const size_t i : order) {
    sorted.values.push_back(matrix[i * size + i]);
    const auto row = vectors.begin() + static_cast<std::ptrdiff_t>(i * size);
    sorted.vectors.insert(sorted.vectors.end(), row, row + static_cast<std::ptrdiff_t>(size));
  }
  return sorted;
}

}  // namespace bdh
