// Low-rank adapters beside the weights (LoRA, arXiv 2106.09685): to a matrix W (rows, columns) left right is
// added, never the sum itself. Float32, rows padded with zeros to whole vectors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace bdh {

/// Zeroed rows of floats, each kRowPadding numbers or a multiple of it long.
struct AdapterRows {
  static constexpr int64_t kRowPadding = 16;

  int64_t stride = 0;
  std::shared_ptr<float> data;

  AdapterRows() = default;
  /// Throws Error(out_of_memory).
  AdapterRows(int64_t rows, int64_t width);
  float* row(int64_t i) const { return data.get() + i * stride; }
};

/// What is added to one matrix; rank 0: nothing. Scales are in `right`.
struct LowRank {
  int64_t rank = 0;
  AdapterRows left, right;
};

/// To encoder and encoder_v: left (H * rank, D), transposed, and right (H * rank, N). To the decoder: left
/// (H*N, rank), right (rank, D).
struct LayerAdapter {
  LowRank encoder, encoder_v, decoder;
};

struct Adapter {
  std::vector<LayerAdapter> layers;  // as many as Dimensions::sets
  LowRank embed;                     // left (V, rank), right (rank, D)
  LowRank lm_head;                   // left (rank, D), transposed, right (rank, V)
  std::string hash;                  // of all its numbers

  const LayerAdapter& layer(int64_t i) const { return layers[static_cast<size_t>(i) % layers.size()]; }
  /// The largest rank of a decoder's, encoder's or encoder_v's.
  int64_t most_rank() const;
};

}  // namespace bdh
