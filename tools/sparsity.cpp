// How active a model's neurons are while it reads a text, by layer: measured, and shown as table, JSON and
// picture.
#include "tools/sparsity.h"

#include <array>
#include <cstdio>
#include <string_view>

#include "bdh/base/error.h"
#include "tools/charts/bar_chart.h"
#include "tools/command.h"
#include "tools/token_source.h"

namespace bdh::tools {
namespace {

constexpr size_t kChunk = 256;

struct Column {
  const char* name;
  double LayerDensity::*value;
};

constexpr std::array kColumns{Column{"n", &LayerDensity::n}, Column{"pairs", &LayerDensity::pairs},
                              Column{"v", &LayerDensity::v}, Column{"g", &LayerDensity::g}};

double share(int64_t count, int64_t tokens, int64_t neurons) {
  return tokens == 0
             ? 0
             : static_cast<double>(count) / (static_cast<double>(tokens) * static_cast<double>(neurons));
}

LayerDensity density(const LayerActivity& layer, int64_t neurons) {
  return {share(layer.n, layer.tokens, neurons), share(layer.pairs, layer.tokens, neurons / 2),
          share(layer.v, layer.v_tokens, neurons), share(layer.g, layer.tokens, neurons)};
}

}  // namespace

Sparsity measure_sparsity(const Model& model, TextSource& text) {
  TokenSource tokens(text, tokenizer_of(model));
  std::vector<LayerActivity> activity;
  ReadOptions read;
  read.chunk = kChunk;
  read.activity = &activity;
  Session session(model.weights);
  Progress progress("reading", "tokens");
  for (auto some = tokens.read(kChunk); !some.empty(); some = tokens.read(kChunk)) {
    session.read(some, read);
    progress.update(session.position(), tokens.size().value_or(0));
    stop_if_interrupted();
  }
  if (session.position() == 0) fail(ErrorKind::invalid_argument, "the text to measure sparsity on is empty");
  const Dimensions dims = model.config().dimensions();
  Sparsity result{session.position(), {}};
  for (const LayerActivity& layer : activity)
    result.layers.push_back(density(layer, dims.heads * dims.neurons));
  return result;
}

std::string sparsity_table(const Sparsity& sparsity) {
  std::string table = "density over " + std::to_string(sparsity.tokens) + " tokens\nlayer";
  char cell[32];
  for (const Column& column : kColumns) {
    std::snprintf(cell, sizeof cell, "%9s", column.name);
    table += cell;
  }
  table += '\n';
  for (size_t i = 0; i < sparsity.layers.size(); ++i) {
    std::snprintf(cell, sizeof cell, "%5zu", i);
    table += cell;
    for (const Column& column : kColumns) {
      std::snprintf(cell, sizeof cell, "%9.4f", sparsity.layers[i].*column.value);
      table += cell;
    }
    table += '\n';
  }
  return table;
}

Json sparsity_json(const Sparsity& sparsity) {
  Json::Array layers;
  for (const LayerDensity& layer : sparsity.layers) {
    Json row;
    for (const Column& column : kColumns) row.set(column.name, layer.*column.value);
    layers.push_back(std::move(row));
  }
  Json json;
  json.set("tokens", sparsity.tokens);
  json.set("layers", std::move(layers));
  return json;
}

std::string sparsity_picture(const Sparsity& sparsity, const std::string& model, const std::string& text) {
  constexpr std::array kLegend{"n", "pairs of n", "v = relu(a Ev)", "g = n v"};
  BarChart chart{"Share of active neurons by layer",
                 model + ", " + std::to_string(sparsity.tokens) + " tokens of " + text,
                 "layer",
                 "share of neurons (of pairs)",
                 {},
                 {}};
  for (size_t i = 0; i < sparsity.layers.size(); ++i) chart.groups.push_back(std::to_string(i));
  for (size_t c = 0; c < kColumns.size(); ++c) {
    BarSeries series{kLegend[c], {}};
    for (const LayerDensity& layer : sparsity.layers) series.values.push_back(layer.*kColumns[c].value);
    chart.series.push_back(std::move(series));
  }
  return svg(chart);
}

}  // namespace bdh::tools
