// Eigenvectors of small symmetric matrices.
#pragma once

#include <cstddef>
#include <vector>

namespace bdh {

struct Eigenvectors {
  std::vector<double> values;   // from the largest down
  std::vector<double> vectors;  // (size, size), row i belongs to value i; orthonormal
};

/// Of a symmetric matrix (size, size), row-major, whose numbers are finite.
Eigenvectors symmetric_eigenvectors(std::vector<double> matrix, size_t size);

}  // namespace bdh
