// The table of sampling options, and SamplingOptions::validate, which goes by it.
#include "kernels/sampling_options.h"

#include <limits>

#include "bdh/base/error.h"

namespace bdh {
namespace {

constexpr double kSmallest = std::numeric_limits<float>::denorm_min();
constexpr double kLargest = std::numeric_limits<float>::max();
constexpr double kAny = std::numeric_limits<double>::infinity();

constexpr SamplingOption kOptions[] = {
    {"temperature", &SamplingOptions::temperature, 0, kLargest, "0 (greedy) or a positive number",
     "above 1 more surprising, below 1 less; 0 is greedy", true, true},
    {"top_k", &SamplingOptions::top_k, 0, kAny, "0 (all tokens) or a positive number",
     "choose among the K likeliest tokens; 0: among all", true, true},
    {"top_p", &SamplingOptions::top_p, 0, 1, "in [0, 1]",
     "choose among the likeliest that together have this probability", true, true},
    {"min_p", &SamplingOptions::min_p, 0, 1, "in [0, 1]",
     "choose among those at least this times as likely as the likeliest", true, false},
    {"typical_p", &SamplingOptions::typical_p, kSmallest, 1, "above 0 and at most 1",
     "choose among those of ordinary surprise that together have this probability", true, false},
    {"epsilon_cutoff", &SamplingOptions::epsilon_cutoff, 0, 1, "in [0, 1]",
     "choose among those that are at least this likely", true, false},
    {"eta_cutoff", &SamplingOptions::eta_cutoff, 0, 1, "in [0, 1]",
     "the same, with less where many tokens are likely", true, false},
    {"repetition_penalty", &SamplingOptions::repetition_penalty, kSmallest, kLargest, "a positive number",
     "above 1: avoid tokens that were there", false, false},
};

}  // namespace

std::span<const SamplingOption> sampling_options() { return kOptions; }

void SamplingOptions::validate() const {
  const auto check = [this](const SamplingOption& option, auto member) {
    const auto value = static_cast<double>(this->*member);
    if (value >= option.low && value <= option.high) return;
    fail(ErrorKind::invalid_argument, option.name, " must be ", option.rule, ", not ", this->*member);
  };
  for (const SamplingOption& option : kOptions)
    std::visit([&](auto member) { check(option, member); }, option.member);
}

}  // namespace bdh
