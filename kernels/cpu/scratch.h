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

}  // namespace bdh::cpu
