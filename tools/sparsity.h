// How active a model's neurons are while it reads a text, by layer: measured, and shown as table, JSON and
// picture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bdh/pretrained/model.h"
#include "tools/text_source.h"

namespace bdh::tools {

/// Shares of one layer's neurons (of its pairs, for pairs) that are not zero, averaged over the tokens read.
struct LayerDensity {
  double n, pairs, v, g;
};

struct Sparsity {
  int64_t tokens = 0;
  std::vector<LayerDensity> layers;
};

/// Reads the text as one stream. Throws Error(invalid_argument) when it is empty.
Sparsity measure_sparsity(const Model& model, TextSource& text);

std::string sparsity_table(const Sparsity& sparsity);
Json sparsity_json(const Sparsity& sparsity);
/// SVG; `model` and `text` name what was measured.
std::string sparsity_picture(const Sparsity& sparsity, const std::string& model, const std::string& text);

}  // namespace bdh::tools
