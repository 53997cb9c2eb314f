// The micro-batches that a safetensors file holds.
#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/formats/safetensors.h"
#include "bdh/train/batch_order.h"

namespace bdh {
namespace {

constexpr const char* kTensor = "tokens";

/// `count` numbers from element `first` on; they may lie unaligned in a mapped file.
std::vector<int64_t> numbers_of(const Tensor& tensor, int64_t first, int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  const std::byte* from = tensor.data + first * static_cast<int64_t>(size_of(tensor.dtype));
  if (tensor.dtype == DType::i64) {
    std::memcpy(numbers.data(), from, numbers.size() * sizeof(int64_t));
    return numbers;
  }
  std::vector<int32_t> narrow(numbers.size());
  std::memcpy(narrow.data(), from, narrow.size() * sizeof(int32_t));
  std::copy(narrow.begin(), narrow.end(), numbers.begin());
  return numbers;
}

class GivenBatches : public BatchOrder {
 public:
  GivenBatches(const std::filesystem::path& file, int64_t accumulate, int64_t vocab)
      : tensor_(open(file)), accumulate_(accumulate) {
    if (accumulate < 1)
      fail(ErrorKind::invalid_argument, "a step has at least 1 micro-batch, not ", accumulate);
    if (sequences() % accumulate != 0)
      fail(ErrorKind::bad_file, file.string(), ": its steps have ", sequences(), " sequences, which make no ",
           accumulate, " micro-batches of the same size; choose another --accumulate");
    check_tokens(file, vocab);
  }

  BatchTokens batch(int64_t step, int64_t micro_batch) const override {
    if (step < 0 || step >= steps() || micro_batch < 0 || micro_batch >= accumulate_)
      fail(ErrorKind::invalid_argument, "step ", step, ", micro-batch ", micro_batch,
           " is not there: the file has ", steps(), " steps of ", accumulate_);
    const int64_t rows = sequences() / accumulate_, length = tensor_.shape[2];
    const std::vector<int64_t> numbers =
        numbers_of(tensor_, (step * sequences() + micro_batch * rows) * length, rows * length);
    BatchTokens tokens;
    for (auto row = numbers.begin(); row != numbers.end(); row += length) {
      std::transform(row, row + length - 1, std::back_inserter(tokens.inputs), to_token);
      std::transform(row + 1, row + length, std::back_inserter(tokens.targets), to_token);
    }
    return tokens;
  }
  int64_t steps_per_epoch() const override { return steps(); }
  int64_t steps() const override { return tensor_.shape[0]; }
  std::string hash() const override { return hash_; }

 private:
  static int32_t to_token(int64_t number) { return static_cast<int32_t>(number); }
  int64_t sequences() const { return tensor_.shape[1]; }

  static Tensor open(const std::filesystem::path& path) {
    Tensor tensor = SafetensorsFile::open(path).tensor(kTensor);
    if (tensor.dtype != DType::i32 && tensor.dtype != DType::i64)
      fail(ErrorKind::bad_file, path.string(), ": ", kTensor, " is ", name_of(tensor.dtype),
           "; write it as I32 or I64");
    const Shape& shape = tensor.shape;
    if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1 || shape[2] < 2)
      fail(ErrorKind::bad_file, path.string(), ": ", kTensor, " is ", to_string(shape),
           "; it must be (steps, B, T + 1), with T at least 1");
    return tensor;
  }

  void check_tokens(const std::filesystem::path& file, int64_t vocab) {
    Sha256 sum;
    const std::string head =
        concat("given ", to_string(tensor_.shape), " accumulate ", accumulate_, " tokens ");
    sum.add(std::as_bytes(std::span(head)));
    const int64_t row = tensor_.shape[2], rows = tensor_.shape[0] * tensor_.shape[1];
    for (int64_t i = 0; i < rows; ++i) {
      const std::vector<int64_t> numbers = numbers_of(tensor_, i * row, row);
      const auto outside = std::find_if(numbers.begin(), numbers.end(),
                                        [&](int64_t token) { return token < 0 || token >= vocab; });
      if (outside != numbers.end())
        fail(ErrorKind::bad_file, file.string(), ": token ", *outside, " of step ", i / sequences(),
             ", sequence ", i % sequences(), " is outside the vocabulary [0, ", vocab, ")");
      sum.add(std::as_bytes(std::span(numbers)));
    }
    hash_ = sum.finish();
  }

  Tensor tensor_;
  int64_t accumulate_;
  std::string hash_;
};

}  // namespace

std::unique_ptr<BatchOrder> given_batches(const std::filesystem::path& file, int64_t accumulate,
                                          int64_t vocab) {
  return std::make_unique<GivenBatches>(file, accumulate, vocab);
}

}  // namespace bdh
