// Checks of what was asked for.
#include "bench/options.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "bdh/base/error.h"

namespace bdh::bench {

namespace {

constexpr const char* kTrained = "trained";

std::regex compiled(const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error&) {
    fail(ErrorKind::invalid_argument, "--kernel '", pattern,
         "' is no regular expression; write something like 'attention|decode'");
  }
}

[[noreturn]] void fail_shape(std::string_view shape) {
  fail(ErrorKind::invalid_argument, "--shape must be default, small, trained or sizes such as 6x256x4x128 ",
       "(layers, width, heads, multiplier), not '", shape, "'");
}

Config config_of_sizes(std::string_view shape) {
  std::array<int64_t, 4> sizes{};
  const char *at = shape.data(), *const end = at + shape.size();
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto [next, error] = std::from_chars(at, end, sizes[i]);
    const bool last = i + 1 == sizes.size();
    if (error != std::errc() || (last ? next != end : next == end || *next != 'x')) fail_shape(shape);
    at = last ? next : next + 1;
  }
  Config config;
  config.n_layer = sizes[0];
  config.n_embd = sizes[1];
  config.n_head = sizes[2];
  config.mlp_internal_dim_multiplier = sizes[3];
  config.validate();
  return config;
}

}  // namespace

Config config_of_shape(std::string_view shape) {
  if (shape == "default" || shape.empty()) return {};
  return config_of_sizes(shape == "small" ? "4x128x4x64" : shape);
}

void check(const Options& options) {
  if (options.shape != kTrained) config_of_shape(options.shape);
  if (options.shape == kTrained && options.model.empty())
    fail(ErrorKind::invalid_argument, "--shape trained needs --model DIR, a trained model's directory");
  constexpr std::array kDTypes{"", "f32", "bf16", "f16", "int8", "int4"};
  if (std::find(kDTypes.begin(), kDTypes.end(), options.dtype) == kDTypes.end())
    fail(ErrorKind::invalid_argument, "--dtype must be f32, bf16, f16, int8 or int4, not '", options.dtype,
         "'");
  if (options.batch < 0) fail(ErrorKind::invalid_argument, "--batch ", options.batch, " is less than 1");
  compiled(options.filter);
}

bool wants_random(const Options& options) { return options.shape != kTrained; }

bool wants_trained(const Options& options) {
  return !options.model.empty() && (options.shape.empty() || options.shape == kTrained);
}

Wanted::Wanted(const Options& options)
    : all_(options.filter.empty()), pattern_(compiled(options.filter)), dtype_(options.dtype) {}

bool Wanted::operator()(const Case& one) const {
  if (!dtype_.empty() && !one.dtype.empty() && one.dtype != dtype_) return false;
  return all_ || std::regex_search(one.id(), pattern_);
}

}  // namespace bdh::bench
