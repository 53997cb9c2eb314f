// From what a weights file holds, whoever wrote it, to a config and tensors as the reference has them; or to
// one line that says which other model it is.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/config.h"
#include "bdh/pretrained/dialects/config_keys.h"
#include "bdh/pretrained/weight_files.h"

namespace bdh {

/// The dialect of the reference itself.
inline constexpr std::string_view kReferenceDialect = "reference";

/// A state_dict in the reference's names.
struct ImportedTensors {
  TensorMap tensors;                   // the reference's, and others that are not the model's
  std::vector<std::string> strangers;  // names of the others, also of those that could not be read
  std::string dialect;                 // "reference"; empty: none that is known
  std::string origin;                  // a repository that saves it
  std::string remark;                  // what a user should know of it
};

struct ImportedModel {
  Config config;
  ImportedTensors weights;
};

/// Brings the tensors of weights files to the reference's names. `config`: with the reference's keys, as far
/// as one is known. Tensors in no dialect stay as they are. Throws Error(unsupported) for another function's,
/// Error(bad_file), and what made a parameter unreadable.
ImportedTensors import_tensors(const WeightFiles& files, const Json& config);

/// The tensors and their config: what `given` says (config.json; null values: there is none) and what the
/// checkpoint says itself, as agreed_config has it; sizes that nobody says are those of the tensors. Throws
/// as import_tensors and agreed_config; Error(bad_file) for a number of layers that nobody says.
ImportedModel import_model(const WeightFiles& files, const ConfigSource& given,
                           std::vector<std::string>* warnings);

}  // namespace bdh
