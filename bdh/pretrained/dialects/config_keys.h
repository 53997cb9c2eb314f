// What others call the sizes of a model, and the keys that make it another function.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh {

/// A config, and where it stands: "model/config.json", "model.pt: config".
struct ConfigSource {
  std::string name;
  Json values;
  bool asked_for = false;  // named by the user for just these weights
};

/// The config that a checkpoint's values hold, under one of the names that repositories use; null values
/// where they hold none.
ConfigSource own_config(const Json& values, const std::string& checkpoint);

/// The values under the reference's names: sizes are renamed, and taken from a section such as `model` where
/// they stand there. Other keys stay as they are.
Json with_reference_keys(const Json& values);

/// One config of several that speak of the same model: the first that has a key counts. Where two differ in a
/// size, the last one counts, which is the checkpoint's own and was saved with the weights, and a warning
/// names both values; throws Error(bad_file) naming them where the first was asked for.
Json agreed_config(const std::vector<ConfigSource>& sources, std::vector<std::string>* warnings);

/// Throws Error(unsupported) naming a key that is switched on and makes the model another function than the
/// reference's.
void refuse_other_functions(const ConfigSource& source);
/// As that, for every config among a checkpoint's values, whether or not it is the model's.
void refuse_other_functions(const Json& values, const std::string& checkpoint);

}  // namespace bdh
