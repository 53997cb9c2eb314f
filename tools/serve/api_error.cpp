// Failures as OpenAI's API tells them.
#include "tools/serve/api_error.h"

#include <string_view>

namespace bdh::tools {
namespace {

std::string_view type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

}  // namespace

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
    case ErrorKind::unsupported:
      return 400;
    case ErrorKind::not_found:
      return 404;
    case ErrorKind::out_of_memory:
    case ErrorKind::cancelled:
      return 503;
    case ErrorKind::io:
      return 507;
    case ErrorKind::bad_file:
      return 500;
  }
  return 500;
}

Json error_json(const ApiError& error) {
  Json json;
  json.set("message", error.message).set("type", type_of(error.status));
  json.set("param", error.parameter.empty() ? Json() : Json(error.parameter));
  json.set("code", error.status == 404 && error.parameter == "model" ? Json("model_not_found") : Json());
  return Json().set("error", json);
}

}  // namespace bdh::tools
