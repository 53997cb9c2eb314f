// The page, and what watches over the server asks for: health, metrics, the description of it all.
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "tools/serve/openapi.h"
#include "tools/serve/page.h"
#include "tools/serve/service.h"

namespace bdh::tools {
namespace {

HttpReply health(Service&, const HttpRequest&, const std::string&) {
  return json_reply(Json().set("status", "ok"));
}

HttpReply ready(Service& service, const HttpRequest&, const std::string&) {
  if (service.draining) throw ApiError(503, "the server is stopping");
  return json_reply(Json().set("status", "ready"));
}

HttpReply describe(Service& service, const HttpRequest&, const std::string&) {
  return json_reply(openapi(service));
}

HttpReply page(Service&, const HttpRequest&, const std::string&) {
  HttpReply reply{.type = "text/html; charset=utf-8", .body = page_files().front().second};
  reply.headers.emplace_back("Content-Security-Policy",
                             "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                             "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                             "frame-ancestors 'none'");
  return reply;
}

double share(int64_t part, int64_t of) {
  return of > 0 ? static_cast<double>(part) / static_cast<double>(of) : 0;
}

/// One family of samples for each number of a model's scheduler.
struct ModelNumber {
  const char* name;
  const char* kind;
  const char* help;
  double (*of)(const SchedulerStatus& status);
};

constexpr ModelNumber kModelNumbers[] = {
    {"bdh_queue", "gauge", "Texts that wait for a place.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.queued); }},
    {"bdh_reading", "gauge", "Texts whose prompt is being read.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.reading); }},
    {"bdh_writing", "gauge", "Texts that are being written.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.writing); }},
    {"bdh_texts_total", "counter", "Texts that ended, cancelled and failed ones too.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.ended); }},
    {"bdh_tokens_read_total", "counter", "Tokens of prompts that were read.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.tokens_read); }},
    {"bdh_tokens_cached_total", "counter", "Tokens of prompts that the prefix cache had.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.tokens_cached); }},
    {"bdh_tokens_drawn_total", "counter", "Tokens that were drawn.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.tokens_drawn); }},
    {"bdh_batches_total", "counter", "Batches that read the newest token of every text.",
     [](const SchedulerStatus& s) { return static_cast<double>(s.batches); }},
    {"bdh_batch_size_mean", "gauge", "Texts in such a batch.",
     [](const SchedulerStatus& s) {
       return share(static_cast<int64_t>(s.tokens_batched), static_cast<int64_t>(s.batches));
     }},
};

std::string density(const std::vector<std::pair<ServedModelPointer, SchedulerStatus>>& models) {
  std::string text = metric_head("bdh_density", "gauge",
                                 "Share of active neurons while writing, by layer: n, and g after the gate.");
  for (const auto& [served, status] : models) {
    const Config& config = served->model->config();
    const int64_t neurons = config.n_head * config.neurons_per_head();
    for (size_t layer = 0; layer < status.activity.size(); ++layer) {
      const LayerActivity& activity = status.activity[layer];
      const std::string labels = label("model", served->id) + "," + label("layer", std::to_string(layer));
      text += sample("bdh_density", labels + "," + label("of", "n"),
                     share(activity.n, activity.tokens * neurons));
      text += sample("bdh_density", labels + "," + label("of", "g"),
                     share(activity.g, activity.tokens * neurons));
    }
  }
  return text;
}

HttpReply metrics(Service& service, const HttpRequest&, const std::string&) {
  std::vector<std::pair<ServedModelPointer, SchedulerStatus>> models;
  for (const ServedModelPointer& served : service.models.list())
    if (!served->shares_scheduler) models.emplace_back(served, served->scheduler->status());
  std::string text = service.metrics.text();
  for (const ModelNumber& number : kModelNumbers) {
    text += metric_head(number.name, number.kind, number.help);
    for (const auto& [served, status] : models)
      text += sample(number.name, label("model", served->id), number.of(status));
  }
  const StateStore& states = service.models.states();
  text += density(models);
  text += metric("bdh_states", "gauge", "States that are kept, the beginnings of prompts too.",
                 static_cast<double>(states.list().size()));
  text += metric("bdh_state_bytes", "gauge", "Memory of states that are kept.",
                 static_cast<double>(states.bytes()));
  text += metric("bdh_requests_active", "gauge", "Requests that are being answered.", service.active);
  text += metric("bdh_resident_bytes_peak", "gauge", "The most memory that the process had.",
                 static_cast<double>(peak_resident_memory()));
  return {.type = "text/plain; version=0.0.4; charset=utf-8", .body = std::move(text)};
}

}  // namespace

void add_server_routes(std::vector<Route>& routes) {
  const Json status = schema_of("object", "");
  const auto open = [&](const char* path, Json operation, auto answer) {
    routes.push_back({"GET", path, std::move(operation), answer, Route::Body::none, false});
  };
  open("/", text_operation("The page", "text/html"), page);
  open("/health", operation("Whether the server runs", {}, status, false), health);
  open("/ready", operation("Whether it takes requests", {}, status, false), ready);
  open("/openapi.json", operation("This document", {}, status, false), describe);
  routes.push_back({"GET", "/metrics", text_operation("Numbers for Prometheus", "text/plain"), metrics});
}

}  // namespace bdh::tools
