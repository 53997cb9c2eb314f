// Arrays of numbers in golden JSON files.
#pragma once

#include <vector>

#include "bdh/base/json.h"

namespace bdh::test {

template <class Number>
std::vector<Number> numbers(const Json& array) {
  std::vector<Number> found;
  for (const Json& item : array.as_array()) found.push_back(static_cast<Number>(item.as_number()));
  return found;
}

}  // namespace bdh::test
