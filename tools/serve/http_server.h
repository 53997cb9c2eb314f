// HttpServer: connections, their limits and deadlines, on cpp-httplib. Knows nothing of what is asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bdh::tools {

struct HttpRequest {
  std::string method, path;  // the path decoded, without the query
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::pair<std::string, std::string>> query;
  /// Whether the client has hung up.
  std::function<bool()> is_gone;

  /// Case makes no difference; "" where there is none.
  std::string_view header(std::string_view name) const;
};

/// Sends a piece of a reply. False: the client has gone, or does not take it.
using PieceWriter = std::function<bool(std::string_view piece)>;

struct HttpReply {
  int status = 200;
  std::string type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::function<void(const PieceWriter& write)> stream = {};  // in the place of `body`
};

/// Called from many threads at once. Nothing may be thrown.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// Before the body is read: how many bytes it may have, or a reply without reading it.
  struct Admission {
    uint64_t most_bytes = 0;
    std::unique_ptr<HttpReply> refusal;
  };
  virtual Admission admit(const HttpRequest& head) = 0;
  virtual HttpReply handle(const HttpRequest& request) = 0;
  /// The reply to what is no HTTP or goes past a limit.
  virtual HttpReply refuse(int status, const std::string& message) = 0;
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;              // 0: any that is free
  int most_connections = 1100;  // each with a thread; more are answered 503
  double client_seconds = 10;   // for the head of a request and each part of a reply
  uint64_t most_body_bytes = uint64_t{256}
                             << 20;  // of all requests together, while they are read and answered
};

/// A client has client_seconds for the head of a request, a second more for each 64 KiB of its body, and
/// client_seconds to take each piece of a reply: slower ones are cut off.
class HttpServer {
 public:
  /// Listens. Throws Error(io) where it cannot, naming host and port.
  HttpServer(HttpHandler& handler, const HttpOptions& options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  /// Serves from a thread of its own.
  void start();
  /// Connections are closed once their request is answered, and new ones are still answered.
  void close_when_answered();
  /// Requests that are being read or answered.
  int answering() const;
  /// Takes no more connections, and returns when all have ended.
  void stop();

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace bdh::tools
