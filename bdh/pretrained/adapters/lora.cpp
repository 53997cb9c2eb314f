// Adding low-rank updates to parameters, row by row in float64.
#include "bdh/pretrained/adapters/lora.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "bdh/base/error.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/adapters/shares.h"

namespace bdh {

namespace {

const float* floats_of(const Tensor& tensor) { return reinterpret_cast<const float*>(tensor.data); }

// row += scale * left right, for row `row` of head `head`.
void add_row(const LowRankUpdate& update, double scale, const ByHead& of, int64_t head, int64_t row,
             std::vector<double>& sum, std::vector<double>& to) {
  const float* left = floats_of(update.left) + (head * of.rows + row) * update.rank;
  const float* right = floats_of(update.right) + head * update.rank * of.columns;
  std::fill(sum.begin(), sum.end(), 0.0);
  for (int64_t k = 0; k < update.rank; ++k, right += of.columns) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += double{left[k]} * double{right[i]};
  }
  for (size_t i = 0; i < sum.size(); ++i) to[i] += scale * update.scale * sum[i];
}

Tensor updated(const std::string& parameter, const Tensor& given, std::span<const UpdateShare> shares) {
  const ByHead of(given.shape);
  const size_t row_bytes = static_cast<size_t>(of.columns) * size_of(given.dtype);
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(given.dtype, given.shape, &data);
  std::vector<double> row(static_cast<size_t>(of.columns)), sum(row.size());
  for (int64_t i = 0; i < of.heads * of.rows; ++i) {
    std::byte* stored = data + static_cast<size_t>(i) * row_bytes;
    copy_row_major(given, i * of.columns, of.columns, stored);
    convert(given.dtype, stored, DType::f64, row.data(), row.size());
    for (const UpdateShare& share : shares)
      add_row(*share.update, share.scale, of, i / of.rows, i % of.rows, sum, row);
    convert(DType::f64, row.data(), given.dtype, stored, row.size());
    convert(given.dtype, stored, DType::f64, row.data(), row.size());
    if (!std::all_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); }))
      fail(ErrorKind::invalid_argument, "with the adapter, '", parameter,
           "' holds a number that is not finite as ", name_of(given.dtype), "; take less of the adapter");
  }
  return tensor;
}

}  // namespace

Model merged(const Model& model, std::span<const AppliedAdapter> adapters) {
  require_floats(model.config(), "merging an adapter");
  TensorMap state_dict = model.weights->state_dict();
  for (const auto& [parameter, of_parameter] : shares_of(model.config(), adapters)) {
    Tensor& tensor = state_dict.at(parameter);
    tensor = updated(parameter, tensor, of_parameter.shares);
  }
  Model other = model;
  other.packed = false;
  other.weights = std::make_shared<Weights>(model.config(), state_dict, model.weights->shared_backend(),
                                            model.weights->dtype());
  return other;
}

}  // namespace bdh
