// HTTP over a socket.
#include "tests/support/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace bdh::test {

namespace {

using Clock = std::chrono::steady_clock;

std::string without_chunks(const std::string& body) {
  std::string plain;
  for (size_t at = 0; at < body.size();) {
    const size_t line = body.find("\r\n", at);
    if (line == std::string::npos) break;
    const size_t size = std::strtoull(body.c_str() + at, nullptr, 16);
    if (size == 0) break;
    plain += body.substr(line + 2, size);
    at = line + 2 + size + 2;
  }
  return plain;
}

}  // namespace

std::vector<std::string> HttpAnswer::events() const {
  std::vector<std::string> list;
  for (size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
    const size_t end = std::min(body.find("\n\n", at), body.size());
    list.push_back(body.substr(at + 6, end - at - 6));
    at = end;
  }
  return list;
}

HttpConnection::HttpConnection(int port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) close();
}

HttpConnection::~HttpConnection() { close(); }

void HttpConnection::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

bool HttpConnection::send(const std::string& bytes) const {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t now = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (now < 0) return false;
    sent += static_cast<size_t>(now);
  }
  return true;
}

std::string HttpConnection::read_until(const std::string& end, std::chrono::seconds most) const {
  std::string bytes;
  const auto last = Clock::now() + most;
  while (end.empty() || bytes.find(end) == std::string::npos) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(last - Clock::now()).count();
    pollfd descriptor{socket_, POLLIN, 0};
    if (left <= 0 || poll(&descriptor, 1, static_cast<int>(left)) <= 0) break;
    char buffer[65536];
    const ssize_t got = recv(socket_, buffer, sizeof buffer, 0);
    if (got <= 0) break;
    bytes.append(buffer, static_cast<size_t>(got));
  }
  return bytes;
}

std::string HttpConnection::read_all(std::chrono::seconds most) const { return read_until("", most); }

std::string http_request(const std::string& method, const std::string& path, const std::string& body,
                         const HttpHeaders& headers) {
  std::string text = method + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
  for (const auto& [name, value] : headers) text.append(name).append(": ").append(value).append("\r\n");
  if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return text + "\r\n" + body;
}

HttpAnswer parse_answer(const std::string& bytes) {
  HttpAnswer answer;
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string::npos || !bytes.starts_with("HTTP/1.1 ")) return answer;
  answer.status = std::atoi(bytes.c_str() + 9);
  answer.head = bytes.substr(0, end + 2);
  answer.body = bytes.substr(end + 4);
  if (answer.head.find("Transfer-Encoding: chunked") != std::string::npos)
    answer.body = without_chunks(answer.body);
  return answer;
}

HttpAnswer ask(int port, const std::string& method, const std::string& path, const std::string& body,
               const HttpHeaders& headers) {
  const HttpConnection connection(port);
  connection.send(http_request(method, path, body, headers));
  return parse_answer(connection.read_all());
}

}  // namespace bdh::test
