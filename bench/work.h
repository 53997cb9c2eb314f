// The work that reading and its kernels cannot do without, counted from sizes and from how active neurons
// were (kernels/backend.h has the formulas).
#pragma once

#include <span>

#include "bdh/model/config.h"
#include "bench/case.h"

namespace bdh::bench {

/// Sizes as numbers to count with. element: bytes of a weight, with its share of a scale; state_element: of
/// S.
struct ModelSizes {
  double layers, width, heads, rows, vocab, element, state_element;  // rows: H * N

  ModelSizes(const Config& config, DType dtype, DType state = DType::f32);
  double matrix() const { return rows * width * element; }       // bytes of E, Ev or the decoder
  double state() const { return rows * width * state_element; }  // bytes of one layer's S
};

/// Shares of active neurons and pairs of one layer.
struct Densities {
  double n = 0, g = 0, pairs = 0;
};
Densities densities_of(const LayerActivity& layer, const ModelSizes& m);

/// Rows that at least one sequence of a batch wants, when each wants `share` of them independently of the
/// others.
double wanted_by_any(double share, double batch);

// Weights are counted as `cached`, states and activations as `bytes`. decode and chunk are whole paths, the
// others one layer of a kernel.

/// One token of each of `batch` sequences, whose activity was counted: E whole; of Ev, the decoder and S the
/// active rows, S `state_passes` times (2: read and written).
Work decode_work(const ModelSizes& m, std::span<const LayerActivity> activity, double batch,
                 double state_passes);

/// Reading `tokens` from the start in chunks: three products, scores and scores x for earlier tokens of the
/// chunk, and with a state its growth and, after the first chunk, readout. logits: rows of them.
Work prefill_work(const ModelSizes& m, double tokens, double chunk, double logits, bool with_state);

/// A step of training on `sequences` of `tokens` in the parallel form: all but x computed twice, gradients of
/// every parameter, AdamW on float32.
Work training_work(const ModelSizes& m, double sequences, double tokens);

/// The same work for a machine whose limits do not tell weights from the rest.
Work uncached(Work work);

// One layer of one token of `batch` sequences.
Work attention_decode_work(const ModelSizes& m, const Densities& active, double batch);
Work gate_decode_work(const ModelSizes& m, const Densities& active, double batch);
/// The exchange with S alone, r having been made.
Work attention_rows_work(const ModelSizes& m, const Densities& active, double batch);

/// Rows of a chunk: `segments` sequences of `tokens` each. activation: bytes of one.
struct PrefillShape {
  double segments, tokens, activation;
  double rows() const { return segments * tokens; }
};
// One layer. n, r and g count as memory, each read or written once.
Work encode_prefill_work(const ModelSizes& m, const PrefillShape& shape);
Work attention_prefill_work(const ModelSizes& m, const PrefillShape& shape);
Work gate_prefill_work(const ModelSizes& m, const PrefillShape& shape);

/// x = norm(embed[token]) for `rows` tokens, x as float32 and once more in `activation` bytes (0: not).
Work embed_work(const ModelSizes& m, double rows, double activation);
/// logits of `rows` rows of x.
Work logits_work(const ModelSizes& m, double rows);
/// A token drawn from each of `rows` rows of logits.
Work draw_work(const ModelSizes& m, double rows);

Work operator+(const Work& a, const Work& b);
/// The middle of works that were done in turn.
Work mean(std::span<const Work> works);

}  // namespace bdh::bench
