// Which horizon suits a trained model: its loss by position, in and past the block it was trained on, for a
// range of horizons.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bdh/pretrained/model.h"

namespace bdh::tools {

/// Nats per token of one unbroken stream.
struct HorizonLoss {
  std::vector<float> horizon;       // as SessionOptions has it; none: without
  std::vector<double> by_position;  // of each band
  double nats_per_token = 0;        // of all
};

struct HorizonTable {
  int64_t block = 0, tokens = 0;
  std::vector<int64_t> ends;  // of the bands of positions: block, 2 block, 4 block, ..; the last is tokens
  std::vector<HorizonLoss> rows;  // without a horizon first, then rising; one by head last, where asked for
  size_t best = 0;                // the row with the least loss; by head only where that is measurably less
};

/// Reads tokens (one more than are predicted) once for each horizon. by_head: then looks for one for each
/// head. Throws Error(invalid_argument) for fewer than block + 1 tokens.
HorizonTable measure_horizons(const Model& model, std::span<const int32_t> tokens, int64_t block,
                              bool by_head, const std::function<void(int64_t done, int64_t total)>& progress);

std::string horizon_table(const HorizonTable& table);
Json horizon_json(const HorizonTable& table);
/// SVG; `model` names what was measured.
std::string horizon_picture(const HorizonTable& table, const std::string& model);

}  // namespace bdh::tools
