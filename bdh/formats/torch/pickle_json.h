// A pickle's plain values as JSON.
#pragma once

#include <span>
#include <string_view>

#include "bdh/base/json.h"
#include "bdh/formats/torch/pickle.h"

namespace bdh {

/// The value as JSON: tuples and sets become arrays, objects their members, dtypes their names, NumPy's
/// scalars numbers; objects and tensors without members a few words; null stands for what else JSON does not
/// have, is nested too deeply, holds itself, or grows out of proportion to the pickle. Keys that are neither
/// strings nor whole numbers are left out; of equal ones the last counts.
Json json_of(const Pickle& pickle, const PickleValue& value);

/// The members of `value` (see Pickle::members) but those named in `without`, each as JSON.
Json members_as_json(const Pickle& pickle, const PickleValue& value,
                     std::span<const std::string_view> without);

}  // namespace bdh
