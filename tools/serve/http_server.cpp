// The only file that includes cpp-httplib, which takes seconds to compile.
#include "tools/serve/http_server.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "bdh/base/error.h"

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
// cpp-httplib is not compiled with the thread sanitizer, which does not see how its statics are guarded.
extern "C" const char* __tsan_default_suppressions() { return "called_from_lib:libcpp-httplib.so\n"; }
#endif
#endif

namespace bdh::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMostHeadBytes = 64 << 10;
constexpr double kBodyBytesPerSecond = 64 << 10;
constexpr int kKeepAliveMilliseconds = 5000, kLookMilliseconds = 100, kLingerMilliseconds = 500;
constexpr int kBacklog = 1024;

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? letter + ('a' - 'A') : letter;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

bool wait_for(int socket, short events, int milliseconds) {
  pollfd descriptor{socket, events, 0};
  int ready = 0;
  do {
    ready = poll(&descriptor, 1, milliseconds);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

/// Bytes of bodies that are in memory, over all connections.
class Room {
 public:
  explicit Room(uint64_t bytes) : left_(static_cast<int64_t>(bytes)) {}
  bool take(uint64_t bytes) {
    if ((left_ -= static_cast<int64_t>(bytes)) >= 0) return true;
    give(bytes);
    return false;
  }
  void give(uint64_t bytes) { left_ += static_cast<int64_t>(bytes); }

 private:
  std::atomic<int64_t> left_;
};

/// A client's socket, as cpp-httplib reads and writes it: with deadlines and a number of bytes that may come.
class Connection : public httplib::Stream {
 public:
  Connection(int socket, double seconds) : socket_(socket), seconds_(seconds) {}

  // ---- for the connection's thread ----

  /// Waits for the first byte of a request. False: there will be none.
  bool await_request(const std::atomic<bool>& closing);
  /// From here on the head of a request may come.
  void begin_request() {
    begun_ = Clock::now();
    left_ = kMostHeadBytes;
    in_body_ = false;
    body_bytes_ = 0;
  }
  /// From here on that many bytes of a body, and no more.
  void begin_body(uint64_t bytes) {
    left_ = bytes;
    in_body_ = true;
  }
  /// Whether all of the request was read.
  bool is_read() const { return in_body_ && left_ == 0; }
  bool is_gone() const;
  void send_and_close(const std::string& text);
  void close();

  HttpRequest request;
  httplib::Request* taken = nullptr;  // the same as cpp-httplib has it
  uint64_t reserved = 0;              // bytes of Room
  bool refused = false;               // its body is not read
  bool is_answered = false;           // counted in `answering`

  // ---- for cpp-httplib ----

  bool is_readable() const override { return begin_ < end_ || wait_for(socket_, POLLIN, 0); }
  bool is_writable() const override {
    return wait_for(socket_, POLLOUT, milliseconds(seconds_)) && !is_gone();
  }
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return socket_; }

 private:
  static int milliseconds(double seconds) { return static_cast<int>(seconds * 1000); }
  double seconds_left() const;
  bool fill();

  int socket_;
  double seconds_;
  Clock::time_point begun_;
  uint64_t left_ = 0, body_bytes_ = 0;
  bool in_body_ = false;
  std::array<char, 16384> buffer_{};
  size_t begin_ = 0, end_ = 0;
};

bool Connection::await_request(const std::atomic<bool>& closing) {
  if (begin_ < end_) return true;
  for (int waited = 0; waited < kKeepAliveMilliseconds; waited += kLookMilliseconds) {
    if (wait_for(socket_, POLLIN, kLookMilliseconds)) return true;
    if (closing) return false;
  }
  return false;
}

double Connection::seconds_left() const {
  const double used = std::chrono::duration<double>(Clock::now() - begun_).count();
  return seconds_ + static_cast<double>(body_bytes_) / kBodyBytesPerSecond - used;
}

bool Connection::fill() {
  const double left = seconds_left();
  if (left <= 0 || !wait_for(socket_, POLLIN, std::max(1, milliseconds(left)))) return false;
  const ssize_t got = recv(socket_, buffer_.data(), buffer_.size(), 0);
  begin_ = 0;
  end_ = got > 0 ? static_cast<size_t>(got) : 0;
  return got > 0;
}

ssize_t Connection::read(char* to, size_t size) {
  if (left_ == 0) return in_body_ ? 0 : -1;
  if (begin_ == end_ && !fill()) return -1;
  const size_t count = std::min({size, end_ - begin_, static_cast<size_t>(left_)});
  std::copy_n(buffer_.data() + begin_, count, to);
  begin_ += count;
  left_ -= count;
  if (in_body_) body_bytes_ += count;
  return static_cast<ssize_t>(count);
}

ssize_t Connection::write(const char* from, size_t size) {
  size_t sent = 0;
  while (sent < size) {
    if (!wait_for(socket_, POLLOUT, milliseconds(seconds_))) return -1;
    const ssize_t now = send(socket_, from + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (now < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (now < 0) return -1;
    sent += static_cast<size_t>(now);
  }
  return static_cast<ssize_t>(size);
}

bool Connection::is_gone() const {
  pollfd descriptor{socket_, POLLRDHUP, 0};
  return poll(&descriptor, 1, 0) > 0 && (descriptor.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Connection::send_and_close(const std::string& text) {
  recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
  send(socket_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
}

/// What the client still sends is taken for a while: else the system would discard the reply with it.
void Connection::close() {
  shutdown(socket_, SHUT_WR);
  const auto end = Clock::now() + std::chrono::milliseconds(kLingerMilliseconds);
  while (!is_gone() && Clock::now() < end && wait_for(socket_, POLLIN, kLingerMilliseconds) &&
         recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT) > 0) {
  }
  ::close(socket_);
}

thread_local Connection* connection_here = nullptr;
thread_local bool is_one_too_many = false;

/// A thread for each connection, up to a number.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  ConnectionThreads(int most, std::atomic<int>& running) : most_(most), running_(running) {}

  void enqueue(std::function<void()> serve) override {
    if (running_ >= most_ || !begin(serve)) refuse(serve);
  }
  void shutdown() override {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  bool begin(const std::function<void()>& serve) {
    ++running_;
    try {
      std::thread([this, serve] {
        serve();
        const std::lock_guard lock(mutex_);
        --running_;
        ended_.notify_all();
      }).detach();
      return true;
    } catch (const std::system_error&) {
      --running_;
      return false;
    }
  }
  static void refuse(const std::function<void()>& serve) {
    is_one_too_many = true;
    serve();
    is_one_too_many = false;
  }

  int most_;
  std::atomic<int>& running_;
  std::mutex mutex_;
  std::condition_variable ended_;
};

std::string head_of(const HttpReply& reply) {
  return concat("HTTP/1.1 ", reply.status, " Service Unavailable\r\nContent-Type: ", reply.type,
                "\r\nContent-Length: ", reply.body.size(), "\r\nConnection: close\r\nRetry-After: 1\r\n\r\n");
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (same_letters(key, name)) return value;
  return {};
}

class HttpServer::Implementation : private httplib::Server {
 public:
  Implementation(HttpHandler& handler, const HttpOptions& options);
  void run() { listen_after_bind(); }
  void end() { Server::stop(); }
  bool is_serving() const { return is_running(); }

  std::atomic<bool> closing = false;
  std::atomic<int> answering = 0;
  int port = 0;
  std::thread thread;

 private:
  bool process_and_close_socket(socket_t socket) override;
  void take_head(httplib::Request& request, Connection& connection) const;
  HandlerResponse admit(const httplib::Request& request, httplib::Response& response);
  void answer(httplib::Response& response);
  void refuse(httplib::Response& response, int status, const std::string& message);
  static void give(HttpReply reply, httplib::Response& response);

  HttpHandler& handler_;
  HttpOptions options_;
  Room room_;
  std::atomic<int> connections_ = 0;
};

HttpServer::Implementation::Implementation(HttpHandler& handler, const HttpOptions& options)
    : handler_(handler), options_(options), room_(options.most_body_bytes) {
  new_task_queue = [this] { return new ConnectionThreads(options_.most_connections, connections_); };
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  set_tcp_nodelay(true);
  set_pre_routing_handler([this](const auto& request, auto& response) { return admit(request, response); });
  const auto answer_any = [this](const httplib::Request&, httplib::Response& response) { answer(response); };
  Get("/", answer_any).Post("/", answer_any).Put("/", answer_any).Patch("/", answer_any);
  Delete("/", answer_any).Options("/", answer_any);
  set_error_handler(Handler([this](const httplib::Request&, httplib::Response& response) {
    if (response.body.empty()) refuse(response, response.status, "this is no request that can be read");
  }));
  errno = 0;
  port = options.port == 0                          ? bind_to_any_port(options.host)
         : bind_to_port(options.host, options.port) ? options.port
                                                    : -1;
  if (port < 0) {
    fail(ErrorKind::io, "cannot listen on ", options.host, ":", options.port, ": ",
         errno != 0 ? std::generic_category().message(errno) : "there is no such address",
         "; name another --host or --port");
  }
  ::listen(svr_sock_, kBacklog);
}

bool HttpServer::Implementation::process_and_close_socket(socket_t socket) {
  const auto connection = std::make_unique<Connection>(socket, options_.client_seconds);
  if (is_one_too_many) {
    HttpReply reply = handler_.refuse(503, "too many connections; try again later");
    connection->send_and_close(head_of(reply) + reply.body);
    return false;
  }
  connection_here = connection.get();
  bool goes_on = true;
  while (goes_on && connection->await_request(closing)) {
    bool is_last = false;
    connection->refused = false;
    connection->begin_request();
    goes_on = process_request(*connection, closing, is_last,
                              [&](httplib::Request& request) { take_head(request, *connection); });
    room_.give(std::exchange(connection->reserved, 0));
    if (std::exchange(connection->is_answered, false)) --answering;
    connection->request = {};
    goes_on = goes_on && !is_last && !closing && !connection->refused && connection->is_read();
  }
  connection->close();
  connection_here = nullptr;
  return true;
}

/// Takes from cpp-httplib what it would act on by itself: encodings, forms, ranges, routes.
void HttpServer::Implementation::take_head(httplib::Request& request, Connection& connection) const {
  connection.taken = &request;
  connection.request.method = request.method;
  connection.request.path = std::exchange(request.path, std::string(1, '/'));
  connection.request.headers.assign(request.headers.begin(), request.headers.end());
  connection.request.query.assign(request.params.begin(), request.params.end());
  connection.request.is_gone = [&connection] { return connection.is_gone(); };
  for (const char* name : {"Content-Type", "Content-Encoding", "Accept-Encoding"})
    request.headers.erase(name);
  request.ranges.clear();
}

httplib::Server::HandlerResponse HttpServer::Implementation::admit(const httplib::Request&,
                                                                   httplib::Response& response) {
  Connection& connection = *connection_here;
  const HttpRequest& head = connection.request;
  connection.is_answered = true;
  ++answering;
  const auto refused = [&](HttpReply reply) {
    give(std::move(reply), response);
    connection.refused = !connection.is_read();
    connection.is_answered = false;
    --answering;
    if (connection.refused) response.set_header("Connection", "close");
    return HandlerResponse::Handled;
  };
  HttpHandler::Admission admission = handler_.admit(head);
  const bool is_chunked = !head.header("Transfer-Encoding").empty();
  const std::string_view length = head.header("Content-Length");
  uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bytes);
  const auto count = std::count_if(head.headers.begin(), head.headers.end(), [](const auto& header) {
    return same_letters(header.first, "Content-Length");
  });
  if (!length.empty() &&
      (error != std::errc() || end != length.data() + length.size() || is_chunked || count > 1))
    return refused(handler_.refuse(400, "Content-Length must be one number of bytes"));
  if (is_chunked && !same_letters(head.header("Transfer-Encoding"), "chunked"))
    return refused(handler_.refuse(501, "Transfer-Encoding must be chunked"));
  connection.begin_body(is_chunked ? 1 : bytes);
  if (admission.refusal) return refused(std::move(*admission.refusal));
  const std::string_view encoding = head.header("Content-Encoding");
  if (!encoding.empty() && !same_letters(encoding, "identity"))
    return refused(handler_.refuse(415, "Content-Encoding must be identity"));
  if (bytes > admission.most_bytes)
    return refused(handler_.refuse(413, concat("the body has ", bytes, " bytes, more than the ",
                                               admission.most_bytes, " that are taken")));
  const uint64_t most = is_chunked ? admission.most_bytes + kMostHeadBytes : bytes;
  if (!room_.take(most))
    return refused(handler_.refuse(503, "too many requests are being read; try again later"));
  connection.reserved = most;
  if (is_chunked) connection.begin_body(most);
  return HandlerResponse::Unhandled;
}

void HttpServer::Implementation::answer(httplib::Response& response) {
  Connection& connection = *connection_here;
  if (!connection.request.header("Transfer-Encoding").empty()) connection.begin_body(0);  // read to its end
  connection.request.body = std::move(connection.taken->body);
  give(handler_.handle(connection.request), response);
}

void HttpServer::Implementation::refuse(httplib::Response& response, int status, const std::string& message) {
  give(handler_.refuse(status > 0 ? status : 400, message), response);
}

void HttpServer::Implementation::give(HttpReply reply, httplib::Response& response) {
  response.status = reply.status;
  for (const auto& [name, value] : reply.headers) response.set_header(name, value);
  if (!reply.stream) return response.set_content(reply.body, reply.type);
  response.set_chunked_content_provider(reply.type, [stream = std::move(reply.stream)](
                                                        size_t, httplib::DataSink& sink) {
    bool taken = true;
    stream([&](std::string_view piece) { return taken = taken && sink.write(piece.data(), piece.size()); });
    if (taken) sink.done();
    return taken;
  });
}

HttpServer::HttpServer(HttpHandler& handler, const HttpOptions& options)
    : implementation_(std::make_unique<Implementation>(handler, options)) {}

HttpServer::~HttpServer() { stop(); }

int HttpServer::port() const { return implementation_->port; }

void HttpServer::start() {
  implementation_->thread = std::thread([this] { implementation_->run(); });
  while (!implementation_->is_serving()) std::this_thread::yield();
}

void HttpServer::close_when_answered() { implementation_->closing = true; }

int HttpServer::answering() const { return implementation_->answering; }

void HttpServer::stop() {
  if (!implementation_->thread.joinable()) return;
  implementation_->closing = true;
  implementation_->end();
  implementation_->thread.join();
}

}  // namespace bdh::tools
