// Looking parameters up by what a user calls them.
#include "bdh/train/parameter_names.h"

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/weights.h"

namespace bdh {

namespace {

bool stands_for(std::string_view given, std::string_view name) {
  return name == given || (name.starts_with(given) && name.substr(given.size()).starts_with('.'));
}

}  // namespace

std::vector<std::string> parameter_names(const Config& config) {
  std::vector<std::string> names;
  for (const auto& [name, shape] : parameter_shapes(config))
    if (name != kFreqs) names.push_back(name);
  return names;
}

std::vector<size_t> find_parameters(const std::vector<std::string>& names, std::string_view given,
                                    std::string_view option) {
  std::vector<size_t> found;
  std::string all;
  for (size_t i = 0; i < names.size(); ++i) {
    if (stands_for(given, names[i])) found.push_back(i);
    all += (all.empty() ? "" : ", ") + names[i];
  }
  if (found.empty())
    fail(ErrorKind::invalid_argument, option, ": the model has no parameter ", printable(given), ", but ",
         all);
  return found;
}

}  // namespace bdh
