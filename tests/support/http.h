// An HTTP client that sends what it is told, also what no client should.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/json.h"

namespace bdh::test {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpAnswer {
  int status = 0;  // 0: the connection ended without an answer
  std::string head, body;

  Json json() const { return Json::parse(body, "the answer"); }
  /// The data of each server-sent event.
  std::vector<std::string> events() const;
};

class HttpConnection {
 public:
  /// To 127.0.0.1.
  explicit HttpConnection(int port);
  ~HttpConnection();
  HttpConnection(HttpConnection&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  /// False: it was closed.
  bool send(const std::string& bytes) const;
  /// What comes until `end`, or until it is closed or the time is over.
  std::string read_until(const std::string& end, std::chrono::seconds most = std::chrono::seconds(60)) const;
  /// All that comes until it is closed.
  std::string read_all(std::chrono::seconds most = std::chrono::seconds(60)) const;
  void close();

 private:
  int socket_;
};

/// A request as a client sends it, the connection to be closed after it.
std::string http_request(const std::string& method, const std::string& path, const std::string& body = {},
                         const HttpHeaders& headers = {});
HttpAnswer parse_answer(const std::string& bytes);
HttpAnswer ask(int port, const std::string& method, const std::string& path, const std::string& body = {},
               const HttpHeaders& headers = {});

}  // namespace bdh::test
