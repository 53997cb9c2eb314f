// What every backend's training shares: the parameters' names, and which options make sense.
#include "kernels/training.h"

#include <algorithm>
#include <cmath>

#include "bdh/base/error.h"

namespace bdh {

namespace {

void check_options(const Dimensions& dims, const TrainingOptions& options) {
  if (!(options.dropout >= 0.0f && options.dropout < 1.0f))
    fail(ErrorKind::invalid_argument, "dropout is ", options.dropout, "; it must be in [0, 1)");
  if (options.chunk < 0) fail(ErrorKind::invalid_argument, "a chunk has at least one token");
  if (options.precision != DType::f32 && options.precision != DType::bf16 && options.precision != DType::f16)
    fail(ErrorKind::invalid_argument, "training runs in f32, bf16 or f16");
  const auto& horizons = options.horizons;
  if (!horizons.empty() && horizons.size() != static_cast<size_t>(dims.heads))
    fail(ErrorKind::invalid_argument, "there are ", horizons.size(), " horizons for ", dims.heads, " heads");
  if (!std::all_of(horizons.begin(), horizons.end(), [](float horizon) { return horizon > 0; }))
    fail(ErrorKind::invalid_argument, "a horizon must be above 0");
}

}  // namespace

Training::Training(const Dimensions& dims, TrainingOptions options)
    : dims_(dims), options_(std::move(options)) {
  if (options_.names.empty()) options_.names = trained_names(dims_);
  check_options(dims_, options_);
}

std::vector<std::string> trained_names(const Dimensions& dims) {
  std::vector<std::string> names;
  for (const char* name : {"decoder", "encoder", "encoder_v"}) {
    for (int64_t set = 0; set < dims.sets; ++set)
      names.push_back(dims.sets == 1 ? name : concat(name, ".", set));
  }
  names.insert(names.end(), {"lm_head", "embed.weight"});
  return names;
}

}  // namespace bdh
