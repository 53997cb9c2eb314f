// SHA-256 of tensors, in pieces.
#include "bdh/base/tensor_hash.h"

#include <algorithm>
#include <span>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"

namespace bdh {
namespace {

void add(Sha256& sum, const Tensor& tensor) {
  constexpr int64_t kPiece = 1 << 20;
  const size_t size = size_of(tensor.dtype);
  const int64_t count = tensor.numel();
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kPiece, count)) * size);
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t taken = std::min(kPiece, count - first);
    copy_row_major(tensor, first, taken, piece.data());
    sum.add(std::span(piece).first(static_cast<size_t>(taken) * size));
    if (tensor.contiguous())
      release(tensor, static_cast<size_t>(first) * size, static_cast<size_t>(taken) * size);
  }
}

}  // namespace

std::string hash_of(const TensorMap& tensors) {
  Sha256 sum;
  for (const auto& [name, tensor] : tensors) {
    const std::string head = concat(name, " ", name_of(tensor.dtype), " ", to_string(tensor.shape), "\n");
    sum.add(std::as_bytes(std::span(head)));
    add(sum, tensor);
  }
  return sum.finish();
}

}  // namespace bdh
