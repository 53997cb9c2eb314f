// A pickle's plain values as JSON.
#pragma once

#include <string>

#include "bdh/base/json.h"
#include "bdh/formats/torch/pickle.h"

namespace bdh {

/// The value as JSON: tuples become arrays, dtypes their names, what JSON does not have null. Throws
/// Error(bad_file) beginning with `source` for values that hold themselves, are nested too deeply or grow out
/// of proportion to the pickle, and for keys that stand twice.
Json json_of(const Pickle& pickle, const PickleValue& value, const std::string& source);

}  // namespace bdh
