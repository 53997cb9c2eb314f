// Routing, keys, errors, and the count of it all.
#include "tools/serve/api.h"

#include <chrono>
#include <exception>
#include <new>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"

namespace bdh::tools {
namespace {

constexpr uint64_t kStateHead = uint64_t{1} << 20;  // of a session file, beside its tensors

/// Whether the path is the pattern's; id receives what stands in the place of {id}.
bool fits(std::string_view pattern, std::string_view path, std::string& id) {
  const size_t hole = pattern.find("{id}");
  if (hole == std::string_view::npos) return pattern == path;
  const std::string_view before = pattern.substr(0, hole), after = pattern.substr(hole + 4);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after))
    return false;
  const std::string_view part = path.substr(before.size(), path.size() - before.size() - after.size());
  if (part.find('/') != std::string_view::npos) return false;
  id = part;
  return true;
}

/// In a time that does not tell where they differ.
bool same_digits(std::string_view a, std::string_view b) {
  uint32_t difference = a.size() != b.size();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    difference |= static_cast<uint32_t>(static_cast<uint8_t>(a[i]) ^ static_cast<uint8_t>(b[i]));
  return difference == 0;
}

HttpReply error_reply(const ApiError& error) {
  HttpReply reply = json_reply(error_json(error), error.status);
  if (error.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

}  // namespace

Api::Match Api::match(const HttpRequest& request) const {
  Match match;
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  for (const Route& route : service_.routes) {
    std::string id;
    if (!fits(route.path, request.path, id)) continue;
    match.allowed += (match.allowed.empty() ? "" : ", ") + route.method;
    if (route.method != method) continue;
    match.route = &route;
    match.id = std::move(id);
  }
  return match;
}

bool Api::may_ask(const HttpRequest& request) const {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view given = request.header("Authorization");
  if (!given.starts_with(kBearer)) return false;
  const std::string digest = sha256_of(given.substr(kBearer.size()));
  bool known = false;
  for (const std::string& key : service_.options.keys) known = same_digits(key, digest) || known;
  return known;
}

void Api::require_admission(const HttpRequest& head, const Match& match) const {
  if (head.method == "OPTIONS" && !match.allowed.empty()) return;
  if (match.allowed.empty())
    throw ApiError(404, "there is nothing at this path (GET /openapi.json says what there is)");
  if (!match.route) throw ApiError(405, concat(head.method, ": this path has ", match.allowed));
  if (!service_.options.keys.empty() && match.route->needs_key && !may_ask(head))
    throw ApiError(401, "this server wants an API key: Authorization: Bearer KEY");
  if (service_.draining && match.route->needs_key) throw ApiError(503, "the server is stopping");
}

HttpHandler::Admission Api::admit(const HttpRequest& head) {
  const Match found = match(head);
  try {
    require_admission(head, found);
  } catch (const ApiError& error) {
    HttpReply reply = error_reply(error);
    if (error.status == 405) reply.headers.emplace_back("Allow", found.allowed);
    return {0, std::make_unique<HttpReply>(
                   finished(std::move(reply), found.route ? found.route->path : "", head))};
  }
  if (!found.route) {
    HttpReply reply{.status = 204, .headers = {{"Allow", found.allowed}}};
    reply.headers.emplace_back("Access-Control-Allow-Methods", found.allowed);
    reply.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type");
    return {0, std::make_unique<HttpReply>(finished(std::move(reply), "OPTIONS", head))};
  }
  if (found.route->body == Route::Body::state) return {service_.models.most_session() + kStateHead, nullptr};
  return {service_.options.body_bytes, nullptr};
}

HttpReply Api::handle(const HttpRequest& request) {
  const auto begun = std::chrono::steady_clock::now();
  const Match found = match(request);
  ++service_.active;
  HttpReply reply;
  try {
    if (!found.route) throw ApiError(404, "there is nothing at this path");
    reply = found.route->answer(service_, request, found.id);
  } catch (const ApiError& error) {
    reply = error_reply(error);
  } catch (const Error& error) {
    reply = error_reply(ApiError(status_of(error.kind()), error.what()));
  } catch (const std::bad_alloc&) {
    reply = error_reply(ApiError(503, "there is no memory left for this request"));
  } catch (const std::exception& error) {
    reply = error_reply(ApiError(500, error.what()));
  }
  reply = finished(std::move(reply), found.route ? found.route->path : "", request);
  const auto end = [this, begun] {
    service_.metrics.request.add(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
    --service_.active;
  };
  if (!reply.stream) {
    end();
    return reply;
  }
  // A stream is over when it has been written, or is thrown away unwritten.
  const std::shared_ptr<void> ends(nullptr, [end](void*) { end(); });
  reply.stream = [ends, stream = std::move(reply.stream)](const PieceWriter& write) { stream(write); };
  return reply;
}

HttpReply Api::refuse(int status, const std::string& message) {
  service_.metrics.count("", status);
  return error_reply(ApiError(status, message));
}

HttpReply Api::finished(HttpReply reply, const std::string& route, const HttpRequest& request) {
  service_.metrics.count(route, reply.status);
  if (!service_.options.cors.empty()) {
    reply.headers.emplace_back("Access-Control-Allow-Origin", service_.options.cors);
    if (service_.options.cors != "*") reply.headers.emplace_back("Vary", "Origin");
  }
  if (request.path != "/") reply.headers.emplace_back("X-Content-Type-Options", "nosniff");
  return reply;
}

}  // namespace bdh::tools
