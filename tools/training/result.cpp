// A finished run in words and as JSON.
#include "tools/training/result.h"

#include <cstdio>

#include "bdh/base/error.h"
#include "tools/cli/progress.h"

namespace bdh::tools {
namespace {

std::string_view reason_of(StopReason reason) {
  switch (reason) {
    case StopReason::done:
      return "done";
    case StopReason::patience:
      return "patience";
    case StopReason::asked:
      return "asked";
  }
  return "";
}

std::string nats(double loss) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f", loss);
  return text;
}

std::string line(std::string name, const std::string& value) {
  constexpr size_t kWidth = 17;
  name.resize(std::max(name.size() + 1, kWidth), ' ');
  return name + value + "\n";
}

std::string steps_of(const FinishedRun& run) {
  std::string text = concat(run.result.step, " of ", run.steps);
  if (run.first > 0) text += concat(", ", run.first, " of them before");
  if (run.result.reason == StopReason::patience) text += ": no better validation for --patience";
  return text;
}

std::string tokens_of(const TrainResult& result) {
  char rate[64];
  std::snprintf(rate, sizeof rate, "%.0f tokens/s", static_cast<double>(result.tokens) / result.seconds);
  return concat(result.tokens, " in ", clock_text(result.seconds), ", ", rate);
}

Json path_json(const std::filesystem::path& path) { return path.empty() ? Json() : Json(path.string()); }

Json json_of(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

}  // namespace

std::string result_text(const FinishedRun& run, const RunFolder& folder) {
  const TrainResult& result = run.result;
  std::string text = line("steps", steps_of(run));
  if (result.step > 0) text += line("loss", nats(result.last_loss));
  if (result.valid_loss) text += line("validation", nats(*result.valid_loss) + " nats per token");
  if (result.ema_valid_loss) text += line("of the average", nats(*result.ema_valid_loss));
  if (result.best)
    text += line("best", concat(run.metric, " ", nats(*result.best), " after step ", result.best_step));
  if (result.tokens > 0) text += line("tokens", tokens_of(result));
  text += line("curve", folder.curve().string());
  if (!run.written.adapter.empty()) text += line("adapter", run.written.adapter.string());
  if (!run.written.final.empty()) text += line("model", run.written.final.string());
  if (!run.written.best.empty()) text += line("best model", run.written.best.string());
  if (!run.written.ema.empty()) text += line("averaged model", run.written.ema.string());
  return text;
}

Json result_json(const FinishedRun& run, const RunFolder& folder) {
  const TrainResult& result = run.result;
  Json json;
  json.set("stopped", reason_of(result.reason));
  json.set("step", result.step).set("steps", run.steps).set("first_step", run.first);
  json.set("loss", result.last_loss);
  json.set("valid_loss", json_of(result.valid_loss)).set("ema_valid_loss", json_of(result.ema_valid_loss));
  json.set("metric", run.metric).set("best", json_of(result.best));
  json.set("best_step", result.best ? Json(result.best_step) : Json());
  json.set("tokens", result.tokens).set("seconds", result.seconds).set("device", run.backend);
  json.set("metrics", folder.metrics().string()).set("curve", folder.curve().string());
  json.set("model", path_json(run.written.final)).set("best_model", path_json(run.written.best));
  json.set("ema_model", path_json(run.written.ema)).set("adapter", path_json(run.written.adapter));
  return json;
}

}  // namespace bdh::tools
