// A matrix as an adapter's file has it.
#pragma once

#include <string>

#include "bdh/base/tensor.h"

namespace bdh {

struct AdapterMatrix {
  std::string name;  // in the file, for errors; empty: there is none
  Tensor tensor;
};

/// Throws Error(bad_file) unless it has that shape and is one of floats.
void require_shape(const AdapterMatrix& matrix, const Shape& shape, const std::string& source);

/// Its elements with that shape and those strides, as float32 in memory of their own. Throws Error(bad_file)
/// where one is not finite.
Tensor viewed(const AdapterMatrix& matrix, Shape shape, Shape strides, const std::string& source);
/// The same as it is.
Tensor floats_of(const AdapterMatrix& matrix, const std::string& source);

}  // namespace bdh
