// Singular vectors by the eigenvectors of a difference times its transpose, on its smaller side: the width D,
// or fewer.
#include "bdh/pretrained/adapters/extract.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/adapters/eigen.h"

namespace bdh {

namespace {

// The difference of one head, its smaller side as rows.
struct Difference {
  size_t rows = 0, columns = 0;
  bool transposed = false;
  std::vector<double> numbers;  // (rows, columns)
};

Difference difference_of(const float* base, const float* tuned, size_t rows, size_t columns) {
  Difference difference{std::min(rows, columns), std::max(rows, columns), columns < rows, {}};
  difference.numbers.resize(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column) {
      const size_t from = row * columns + column, to = difference.transposed ? column * rows + row : from;
      difference.numbers[to] = double{tuned[from]} - double{base[from]};
    }
  }
  return difference;
}

double dot(const double* a, const double* b, size_t count) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  for (; i < count; ++i) sums[0] += a[i] * b[i];
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

// Row by row.
std::vector<double> times_transpose(const Difference& difference) {
  const auto& [rows, columns, transposed, numbers] = difference;
  std::vector<double> products(rows * rows);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      const double product = dot(numbers.data() + i * columns, numbers.data() + j * columns, columns);
      products[i * rows + j] = products[j * rows + i] = product;
    }
  }
  return products;
}

// Writable matrices of one head.
struct Factors {
  float *left, *right;  // (rows, rank), (rank, columns)
  size_t rank;
};

// Singular vectors, each times the root of its singular value, so that neither factor is larger than the
// other.
void write_factor(const Difference& difference, const double* vector, double value, size_t k,
                  const Factors& to) {
  const auto& [rows, columns, transposed, numbers] = difference;
  const double root = std::sqrt(std::sqrt(value));
  std::vector<double> longer(columns);  // the difference's transpose times the vector
  for (size_t row = 0; row < rows; ++row)
    for (size_t i = 0; i < columns; ++i) longer[i] += vector[row] * numbers[row * columns + i];
  for (size_t row = 0; row < rows; ++row) {
    const auto number = static_cast<float>(vector[row] * root);
    (transposed ? to.right[k * rows + row] : to.left[row * to.rank + k]) = number;
  }
  for (size_t i = 0; i < columns; ++i) {
    const auto number = static_cast<float>(longer[i] / root);
    (transposed ? to.left[i * to.rank + k] : to.right[k * columns + i]) = number;
  }
}

struct Squares {
  double all = 0, held = 0;
};

Squares approximate(const Difference& difference, const Factors& to) {
  const std::vector<double> products = times_transpose(difference);
  Squares squares;
  for (size_t i = 0; i < difference.rows; ++i) squares.all += products[i * difference.rows + i];
  if (!std::isfinite(squares.all) || squares.all == 0) return squares;
  const Eigenvectors eigen = symmetric_eigenvectors(products, difference.rows);
  for (size_t k = 0; k < to.rank && eigen.values[k] > 0; ++k) {
    write_factor(difference, eigen.vectors.data() + k * difference.rows, eigen.values[k], k, to);
    squares.held += eigen.values[k];
  }
  return squares;
}

const float* floats_of(const Tensor& tensor) { return reinterpret_cast<const float*>(tensor.data); }

// In memory of its own, which is aligned.
Tensor own_floats(const Tensor& given) {
  const Tensor floats = converted(given, DType::f32);
  std::byte* data = nullptr;
  Tensor own = make_tensor(DType::f32, floats.shape, &data);
  std::memcpy(data, floats.data, floats.bytes());
  return own;
}

void add_update(ExtractedAdapter& extracted, const std::string& parameter, const Tensor& base,
                const Tensor& tuned, int64_t rank) {
  const Shape& shape = base.shape;
  const int64_t heads = shape.size() == 3 ? shape.front() : 1, rows = shape[shape.size() - 2],
                columns = shape.back();
  if (rank < 1 || rank > std::min(rows, columns))
    fail(ErrorKind::invalid_argument, "'", parameter, "' has matrices of ", rows, " x ", columns,
         ", of which no rank is ", rank, "; give one from 1 to ", std::min(rows, columns));
  Shape left = shape, right = shape;
  left.back() = right[right.size() - 2] = rank;
  std::byte *to_left = nullptr, *to_right = nullptr;
  LowRankUpdate update{parameter, rank, 1, make_tensor(DType::f32, left, &to_left),
                       make_tensor(DType::f32, right, &to_right)};
  Squares sum;
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t at = head * rows * columns;
    const Difference difference = difference_of(floats_of(base) + at, floats_of(tuned) + at,
                                                static_cast<size_t>(rows), static_cast<size_t>(columns));
    const Factors to{reinterpret_cast<float*>(to_left) + head * rows * rank,
                     reinterpret_cast<float*>(to_right) + head * rank * columns, static_cast<size_t>(rank)};
    const Squares squares = approximate(difference, to);
    sum.all += squares.all;
    sum.held += squares.held;
  }
  if (!std::isfinite(sum.all))
    fail(ErrorKind::invalid_argument, "the difference of '", parameter,
         "' holds a number that is not finite; bdh validate says which model");
  if (sum.all == 0) return;
  extracted.adapter.updates.push_back(std::move(update));
  extracted.held.push_back({parameter, std::sqrt(sum.all), std::min(1.0, sum.held / sum.all)});
}

bool same_numbers(const Tensor& a, const Tensor& b) {
  return a.shape == b.shape && std::memcmp(a.data, b.data, a.bytes()) == 0;
}

}  // namespace

ExtractedAdapter extracted_adapter(const Model& base, const Model& tuned, int64_t rank) {
  for (const Model* model : {&base, &tuned}) require_floats(model->config(), "taking an adapter from models");
  const TensorMap from = base.weights->state_dict(), to = tuned.weights->state_dict();
  ExtractedAdapter extracted;
  for (const auto& [name, tensor] : from) {
    const auto other = to.find(name);
    if (other == to.end() || other->second.shape != tensor.shape)
      fail(ErrorKind::invalid_argument, "the two models have not the same sizes: '", name, "' is ",
           other == to.end() ? "missing" : to_string(other->second.shape), " in the second, ",
           to_string(tensor.shape), " in the first");
    const Tensor before = own_floats(tensor), after = own_floats(other->second);
    if (name != kFreqs)
      add_update(extracted, name, before, after, rank);
    else if (!same_numbers(before, after))
      fail(ErrorKind::invalid_argument, "the two models have other frequencies (", kFreqs,
           "), which no adapter changes");
  }
  if (from.size() != to.size())
    fail(ErrorKind::invalid_argument, "the two models have not the same sizes: the second has more layers");
  if (extracted.adapter.updates.empty())
    fail(ErrorKind::invalid_argument, "the two models have the same weights: there is nothing to extract");
  return extracted;
}

}  // namespace bdh
