// Measures horizons, and shows them as table, JSON and picture.
#include "tools/horizon_search.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/model/horizon.h"
#include "bdh/model/session.h"
#include "tools/charts/line_chart.h"
#include "tools/cli/progress.h"
#include "tools/loss.h"

namespace bdh::tools {
namespace {

// Of the block.
constexpr double kFractions[] = {0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1, 2};
constexpr double kMeasurable = 1e-3;  // nats per token
constexpr int kPasses = 2;            // over the heads

class Measurement {
 public:
  Measurement(const Model& model, std::span<const int32_t> tokens, int64_t block,
              const std::function<void(int64_t, int64_t)>& progress)
      : model_(model), tokens_(tokens), progress_(progress) {
    const auto count = static_cast<int64_t>(tokens.size()) - 1;
    for (int64_t end = block; end < count; end *= 2) ends_.push_back(end);
    ends_.push_back(count);
  }

  const std::vector<int64_t>& ends() const { return ends_; }
  void expect(int64_t readings) { expected_ += readings * ends_.back(); }

  HorizonLoss loss(const std::vector<float>& horizon) {
    Session session(model_.weights, {.horizon = horizon});
    HorizonLoss loss{horizon, {}, 0};
    int64_t begin = 0;
    for (const int64_t end : ends_) {
      const double nats = read(session, begin, end);
      loss.by_position.push_back(nats / static_cast<double>(end - begin));
      loss.nats_per_token += nats / static_cast<double>(ends_.back());
      begin = end;
    }
    return loss;
  }

 private:
  double read(Session& session, int64_t begin, int64_t end) {
    double nats = 0;
    const int64_t chunk = model_.weights->backend().prefill_tokens();
    for (int64_t at = begin; at < end; at += chunk) {
      const auto count = static_cast<size_t>(std::min(chunk, end - at));
      const std::span<const int32_t> piece = tokens_.subspan(static_cast<size_t>(at), count + 1);
      const std::vector<float> logits = session.read_all(piece.first(count));
      const size_t vocab = logits.size() / count;
      for (size_t i = 0; i < count; ++i)
        nats += loss_of(std::span(logits).subspan(i * vocab, vocab), piece[i + 1]);
      done_ += static_cast<int64_t>(count);
      progress_(done_, expected_);
    }
    return nats;
  }

  const Model& model_;
  std::span<const int32_t> tokens_;
  const std::function<void(int64_t, int64_t)>& progress_;
  std::vector<int64_t> ends_;
  int64_t done_ = 0, expected_ = 0;
};

std::vector<float> candidates(int64_t block) {
  std::vector<float> horizons;
  for (const double fraction : kFractions) {
    const auto horizon = static_cast<float>(std::max(1.0, std::round(fraction * static_cast<double>(block))));
    if (horizons.empty() || horizon > horizons.back()) horizons.push_back(horizon);
  }
  return horizons;
}

bool less_loss(const HorizonLoss& a, const HorizonLoss& b) { return a.nats_per_token < b.nats_per_token; }

// Halves and doubles the horizon of one head after the other, as long as that helps.
HorizonLoss search_by_head(Measurement& measurement, const HorizonLoss& start, int64_t heads) {
  HorizonLoss best = start;
  best.horizon.assign(static_cast<size_t>(heads), start.horizon.front());
  measurement.expect(kPasses * heads * 2);
  for (int pass = 0; pass < kPasses; ++pass) {
    for (size_t head = 0; head < best.horizon.size(); ++head) {
      for (const float factor : {0.5f, 2.0f}) {
        std::vector<float> horizon = best.horizon;
        horizon[head] *= factor;
        HorizonLoss loss = measurement.loss(horizon);
        if (less_loss(loss, best)) best = std::move(loss);
      }
    }
  }
  return best;
}

std::string cell(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string right(const std::string& text, size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

// What a row or a line is called.
std::string label(const HorizonLoss& row) {
  return row.horizon.size() > 1 ? "by head" : horizon_text(row.horizon);
}

}  // namespace

HorizonTable measure_horizons(const Model& model, std::span<const int32_t> tokens, int64_t block,
                              bool by_head, const std::function<void(int64_t, int64_t)>& progress) {
  if (static_cast<int64_t>(tokens.size()) <= block) {
    fail(ErrorKind::invalid_argument, "the text is too short: a block of ", block, " needs at least ",
         block + 1, " tokens, not ", tokens.size());
  }
  Measurement measurement(model, tokens, block, progress);
  HorizonTable table{block, static_cast<int64_t>(tokens.size()) - 1, measurement.ends(), {}, 0};
  const std::vector<float> horizons = candidates(block);
  measurement.expect(static_cast<int64_t>(horizons.size()) + 1);
  table.rows.push_back(measurement.loss({}));
  for (const float horizon : horizons) table.rows.push_back(measurement.loss({horizon}));
  table.best = static_cast<size_t>(std::min_element(table.rows.begin(), table.rows.end(), less_loss) -
                                   table.rows.begin());
  if (!by_head) return table;
  const auto one = std::min_element(table.rows.begin() + 1, table.rows.end(), less_loss);
  table.rows.push_back(search_by_head(measurement, *one, model.config().n_head));
  const double least = table.rows[table.best].nats_per_token;
  if (table.rows.back().nats_per_token < least - kMeasurable) table.best = table.rows.size() - 1;
  return table;
}

std::string horizon_table(const HorizonTable& table) {
  size_t width = std::string_view("horizon").size();
  for (const HorizonLoss& row : table.rows) width = std::max(width, label(row).size());
  std::string text = right("horizon", width);
  for (const int64_t end : table.ends) text += right(concat("to ", end), 11);
  text += right("all", 9) + "\n";
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const HorizonLoss& row = table.rows[i];
    text += right(label(row), width);
    for (const double nats : row.by_position) text += right(cell("%.4f", nats), 11);
    text += right(cell("%.4f", row.nats_per_token), 9) + (i == table.best ? "  best" : "") + "\n";
  }
  return text;
}

Json horizon_json(const HorizonTable& table) {
  Json rows(Json::Array{});
  for (const HorizonLoss& loss : table.rows) {
    Json row, bands(Json::Array{});
    for (size_t i = 0; i < table.ends.size(); ++i) {
      Json band;
      band.set("from", i == 0 ? int64_t{0} : table.ends[i - 1]);
      band.set("to", table.ends[i]);
      band.set("nats_per_token", loss.by_position[i]);
      bands.push(band);
    }
    row.set("horizon", horizon_to_json(loss.horizon));
    row.set("nats_per_token", loss.nats_per_token);
    row.set("by_position", bands);
    rows.push(row);
  }
  Json json;
  json.set("block", table.block);
  json.set("tokens", table.tokens);
  json.set("best", horizon_to_json(table.rows[table.best].horizon));
  json.set("horizons", rows);
  return json;
}

std::string horizon_picture(const HorizonTable& table, const std::string& model) {
  LineChart chart{
      .title = "Loss by position in one unbroken text",
      .subtitle = concat(model, ", trained on blocks of ", table.block, "; ", table.tokens, " tokens"),
      .x_axis = "position, to",
      .y_axis = "nats per token",
      .x = {table.ends.begin(), table.ends.end()},
      .series = {},
      .mark = static_cast<double>(table.block),
      .mark_name = "block"};
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const HorizonLoss& row = table.rows[i];
    chart.series.push_back({i == 0 ? "no horizon" : "horizon " + label(row),
                            row.by_position,
                            i == table.best ? LineLook::strong : LineLook::plain,
                            {}});
  }
  return svg(chart);
}

}  // namespace bdh::tools
