// ApiError: a failure as a client is told.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/json.h"

namespace bdh::tools {

struct ApiError : std::exception {
  int status;
  std::string message, parameter;  // the parameter that is wrong; "": none

  ApiError(int code, std::string text, std::string name = "")
      : status(code), message(std::move(text)), parameter(std::move(name)) {}
  const char* what() const noexcept override { return message.c_str(); }
};

/// What an Error of the library is to a client whose request led to it.
int status_of(ErrorKind kind);
/// As OpenAI's API has it.
Json error_json(const ApiError& error);

}  // namespace bdh::tools
