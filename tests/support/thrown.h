// The bdh::Error that a call throws, to look at its kind and words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "bdh/base/error.h"

namespace bdh::test {

/// What was thrown; no kind and an empty message when nothing was. Other exceptions pass through.
struct Thrown {
  std::optional<ErrorKind> kind;
  std::string message;
  bool says(std::string_view fragment) const { return message.find(fragment) != std::string::npos; }
};

template <class Call>
Thrown thrown_by(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  return {};
}

}  // namespace bdh::test
