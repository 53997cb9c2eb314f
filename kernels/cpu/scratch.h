// Working memory that is kept from one read to the next, so that reading allocates nothing once warm.
#pragma once

#include <algorithm>
#include <memory>

#include "bdh/base/memory.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {

/// A grow-only array of floats or indices. Contents are undefined after growing.
template <class Element>
class Buffer {
 public:
  /// At least `count` elements, aligned to whole vectors. Throws Error(out_of_memory).
  Element* at_least(int64_t count) {
    if (count > count_) {
      memory_.reset();
      count_ = 0;
      memory_ = allocate_zeroed(static_cast<size_t>(count) * sizeof(Element), "working memory for this read");
      count_ = count;
    }
    return reinterpret_cast<Element*>(memory_.get());
  }

 private:
  std::shared_ptr<std::byte> memory_;
  int64_t count_ = 0;
};

/// Indices and values of the non-zero entries of values[0, count); returns how many there are.
inline int64_t compact(const float* values, int64_t count, int32_t* index, float* kept) {
  int64_t active = 0;
  for (int64_t i = 0; i < count; ++i) {
    index[active] = static_cast<int32_t>(i);
    kept[active] = values[i];
    active += values[i] != 0.0f;
  }
  return active;
}

}  // namespace bdh::cpu
