// Api: finds the route of a request, lets in who may ask, and turns failures into replies.
#pragma once

#include <string>

#include "tools/serve/http_server.h"
#include "tools/serve/service.h"

namespace bdh::tools {

class Api : public HttpHandler {
 public:
  explicit Api(Service& service) : service_(service) {}

  Admission admit(const HttpRequest& head) override;
  HttpReply handle(const HttpRequest& request) override;
  HttpReply refuse(int status, const std::string& message) override;

 private:
  struct Match {
    const Route* route = nullptr;
    std::string id;
    std::string allowed;  // methods that the path has
  };
  Match match(const HttpRequest& request) const;
  bool may_ask(const HttpRequest& request) const;
  void require_admission(const HttpRequest& head, const Match& match) const;
  HttpReply finished(HttpReply reply, const std::string& route, const HttpRequest& request);

  Service& service_;
};

}  // namespace bdh::tools
