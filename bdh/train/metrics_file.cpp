// metrics.jsonl: a line for each step of a run.
#include "bdh/train/metrics_file.h"

#include <functional>
#include <string>
#include <string_view>
#include <system_error>

#include "bdh/base/error.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxLineBytes = 16'000'000;

/// Calls take with each line's object and its bytes, until one returns false or a line is no such object, or
/// has no end. Returns the bytes of the lines that were taken.
size_t read_lines(std::string_view text, const std::function<bool(int64_t step, const Json&)>& take) {
  size_t at = 0;
  for (size_t end = text.find('\n'); end != text.npos; end = text.find('\n', at)) {
    if (end - at > kMaxLineBytes) break;
    try {
      const Json line = Json::parse(text.substr(at, end - at), "");
      const Json* step = line.find("step");
      if (!step || !take(step->as_integer(), line)) break;
    } catch (const Error&) {
      break;
    }
    at = end + 1;
  }
  return at;
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// The file's path, after what is past the step was cut off.
const fs::path& cut_back(const fs::path& path, int64_t step) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return path;
  const auto old = MappedFile::open(path);
  const std::string_view text = text_of(*old);
  const size_t kept = read_lines(text, [&](int64_t line_step, const Json&) { return line_step <= step; });
  if (kept == text.size()) return path;
  AtomicFile file(path);
  file.write(text.substr(0, kept));
  file.commit();
  return path;
}

void add_loss(std::vector<LossPoint>& points, int64_t step, const Json* loss) {
  if (loss && loss->is_number()) points.push_back({step, loss->as_number()});
}

}  // namespace

Json metrics_json(const StepMetrics& metrics) {
  Json line;
  line.set("step", metrics.step);
  line.set("loss", metrics.loss);
  line.set("lr", metrics.rate);
  line.set("grad_norm", metrics.gradient_norm);
  line.set("tokens_per_second", metrics.tokens_per_second);
  line.set("tokens", metrics.tokens);
  line.set("epoch", metrics.epoch);
  if (metrics.skipped) line.set("skipped", true);
  if (metrics.loss_scale != 1) line.set("loss_scale", metrics.loss_scale);
  if (metrics.valid_loss) line.set("valid_loss", *metrics.valid_loss);
  if (metrics.valid_bits_per_byte) line.set("valid_bits_per_byte", *metrics.valid_bits_per_byte);
  if (metrics.ema_valid_loss) line.set("ema_valid_loss", *metrics.ema_valid_loss);
  if (metrics.sample) line.set("sample", *metrics.sample);
  return line;
}

MetricsFile::MetricsFile(const fs::path& path, int64_t step) : file_(cut_back(path, step)) {}

void MetricsFile::add(const StepMetrics& metrics) { file_.write(metrics_json(metrics).dump() + "\n"); }

LossHistory read_loss_history(const fs::path& path) {
  const auto file = MappedFile::open(path);
  LossHistory history;
  read_lines(text_of(*file), [&](int64_t step, const Json& line) {
    add_loss(history.train, step, line.find("loss"));
    add_loss(history.validation, step, line.find("valid_loss"));
    return true;
  });
  return history;
}

}  // namespace bdh
