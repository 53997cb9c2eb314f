// Bytes and flops of paths and kernels.
#include "bench/work.h"

#include <algorithm>
#include <cmath>

namespace bdh::bench {

namespace {

constexpr double kFloat = sizeof(float);

// Scales are of 2 bytes: one for a row in 8 bits, for 32 numbers in 4.
double bytes_of_weight(DType dtype, double width) {
  if (dtype == DType::i8) return 1 + 2 / width;
  return dtype == DType::u8 ? 0.5 + 2.0 / 32 : static_cast<double>(size_of(dtype));
}

// (row, earlier row) pairs of a chunk.
double causal_pairs(double tokens) { return tokens * (tokens - 1) / 2; }

// Scores of the pairs and their use, in all heads: 2 N H and 2 D H flops each.
double causal_flops(const ModelSizes& m, double pairs) {
  return 2 * pairs * m.rows + 2 * pairs * m.heads * m.width;
}

}  // namespace

ModelSizes::ModelSizes(const Config& config, DType dtype, DType state)
    : layers(static_cast<double>(config.n_layer)),
      width(static_cast<double>(config.n_embd)),
      heads(static_cast<double>(config.n_head)),
      rows(static_cast<double>(config.n_head * config.neurons_per_head())),
      vocab(static_cast<double>(config.vocab_size)),
      element(bytes_of_weight(dtype, width)),
      state_element(static_cast<double>(size_of(state))) {}

Densities densities_of(const LayerActivity& layer, const ModelSizes& m) {
  const double all = static_cast<double>(layer.tokens) * m.rows;
  if (all == 0) return {};
  return {static_cast<double>(layer.n) / all, static_cast<double>(layer.g) / all,
          2 * static_cast<double>(layer.pairs) / all};
}

double wanted_by_any(double share, double batch) { return 1 - std::pow(1 - share, batch); }

Work attention_rows_work(const ModelSizes& m, const Densities& active, double batch) {
  return {.bytes = 2 * batch * active.pairs * m.state(),
          .flops = 4 * batch * m.rows * m.width * active.pairs,
          .working_set = batch * m.state()};
}

Work attention_decode_work(const ModelSizes& m, const Densities& active, double batch) {
  const Work encode{.cached = m.matrix(), .flops = 2 * batch * m.rows * m.width, .working_set = m.matrix()};
  return encode + attention_rows_work(m, active, batch);
}

Work gate_decode_work(const ModelSizes& m, const Densities& active, double batch) {
  return {.cached = m.matrix() * (wanted_by_any(active.n, batch) + wanted_by_any(active.g, batch)),
          .flops = 2 * batch * m.rows * m.width * (active.n + active.g),
          .working_set = 2 * m.matrix()};
}

Work decode_work(const ModelSizes& m, std::span<const LayerActivity> activity, double batch,
                 double state_passes) {
  Work work{.cached = m.vocab * m.width * m.element,
            .flops = 2 * batch * m.vocab * m.width,
            .working_set = 3 * m.matrix() + batch * m.layers * m.state(),
            .tokens = batch};
  for (const LayerActivity& layer : activity) {
    const Densities active = densities_of(layer, m);
    const Work gate = gate_decode_work(m, active, batch);
    work.bytes += state_passes * batch * active.pairs * m.state();
    work.cached += m.matrix() + gate.cached;
    work.flops += 2 * batch * m.rows * m.width * (1 + state_passes * active.pairs) + gate.flops;
  }
  return work;
}

Work prefill_work(const ModelSizes& m, double tokens, double chunk, double logits, bool with_state) {
  const double chunks = std::ceil(tokens / chunk), last = tokens - (chunks - 1) * chunk;
  const double pairs = (chunks - 1) * causal_pairs(chunk) + causal_pairs(last);
  const double recalled = with_state ? tokens - std::min(chunk, tokens) : 0, added = with_state ? tokens : 0;
  const double matrices = 6 * tokens + 2 * recalled + 2 * added;
  const double state_passes =
      with_state ? 2 * chunks - 1 : 0;  // written by each chunk, read by all but the first
  return {.bytes = m.layers * state_passes * m.state(),
          .cached = m.layers * 3 * chunks * m.matrix(),
          .flops = m.layers * (matrices * m.rows * m.width + causal_flops(m, pairs)) +
                   2 * logits * m.width * m.vocab,
          .working_set = 3 * m.matrix() + (with_state ? m.layers * m.state() : 0),
          .tokens = tokens};
}

Work training_work(const ModelSizes& m, double sequences, double tokens) {
  constexpr double kPlanes =
      9;  // gradient, parameters and two moments read and written, parameters once more
  constexpr double kProducts = 3 + 2 + 6;  // forwards, again, and the gradients'
  const double rows = sequences * tokens, pairs = sequences * causal_pairs(tokens);
  const double parameters = 3 * m.rows * m.width + 2 * m.vocab * m.width;
  // The gradient of scores gives both tokens of a pair something.
  const double attention = 2 * causal_flops(m, pairs) + 4 * pairs * (m.rows + m.heads * m.width);
  return {.bytes = kPlanes * kFloat * parameters,
          .flops = m.layers * (kProducts * 2 * rows * m.rows * m.width + attention) +
                   3 * 2 * rows * m.width * m.vocab,
          .working_set = kPlanes * kFloat * parameters,
          .tokens = rows};
}

Work uncached(Work work) {
  work.bytes += work.cached;
  work.cached = 0;
  return work;
}

Work encode_prefill_work(const ModelSizes& m, const PrefillShape& shape) {
  return {.bytes = 2 * shape.rows() * m.rows * shape.activation,  // n and r
          .cached = m.matrix() + shape.rows() * m.width * shape.activation,
          .flops = 2 * shape.rows() * m.rows * m.width};
}

Work attention_prefill_work(const ModelSizes& m, const PrefillShape& shape) {
  const double x = shape.rows() * m.width * shape.activation;
  return {.bytes = shape.rows() * m.rows * shape.activation + 2 * shape.segments * m.state(),
          .cached = x + m.heads * x,  // x, and norm(a) of every head
          .flops = causal_flops(m, shape.segments * causal_pairs(shape.tokens)) +
                   4 * shape.rows() * m.rows * m.width};
}

Work gate_prefill_work(const ModelSizes& m, const PrefillShape& shape) {
  return {.bytes = 2 * shape.rows() * m.rows * shape.activation,  // n read, g written
          .cached = 2 * m.matrix() + shape.rows() * m.width * (m.heads * shape.activation + 2 * kFloat),
          .flops = 4 * shape.rows() * m.rows * m.width};
}

Work embed_work(const ModelSizes& m, double rows, double activation) {
  return {.cached = rows * m.width * (m.element + kFloat + activation)};
}

Work logits_work(const ModelSizes& m, double rows) {
  return {.cached = m.width * m.vocab * m.element + rows * (m.width + m.vocab) * kFloat,
          .flops = 2 * rows * m.width * m.vocab};
}

Work draw_work(const ModelSizes& m, double rows) { return {.cached = rows * m.vocab * kFloat}; }

Work operator+(const Work& a, const Work& b) {
  return {a.bytes + b.bytes, a.written + b.written,         a.cached + b.cached,
          a.flops + b.flops, a.working_set + b.working_set, a.tokens + b.tokens};
}

Work mean(std::span<const Work> works) {
  Work sum;
  for (const Work& work : works) sum = sum + work;
  const double share = works.empty() ? 0 : 1 / static_cast<double>(works.size());
  return {sum.bytes * share, sum.written * share,     sum.cached * share,
          sum.flops * share, sum.working_set * share, sum.tokens * share};
}

}  // namespace bdh::bench
