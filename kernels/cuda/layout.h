// Lays arrays out one after the other in one allocation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bdh::cuda {

class Layout {
 public:
  /// memory null: only counts.
  explicit Layout(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  /// Room for `count` elements, aligned for every kind of load.
  template <class Element>
  Element* take(int64_t count) {
    return static_cast<Element*>(take_bytes(static_cast<size_t>(count) * sizeof(Element)));
  }
  void* take_bytes(size_t bytes) {
    void* place = memory_ ? memory_ + used_ : nullptr;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }
  size_t bytes() const { return used_; }

 private:
  static constexpr size_t kAlignment = 256;
  unsigned char* memory_;
  size_t used_ = 0;
};

}  // namespace bdh::cuda
