// The gate forwards and backwards, by blocks of neurons.
#include "kernels/cpu/training/gate.h"

#include "kernels/cpu/training/products.h"

namespace bdh::cpu {

namespace {

Dropout dropout_of(const Pass& p) {
  return {p.dropout, static_cast<uint32_t>(p.layer), p.scratch.tokens.data(), p.scratch.sequences.data()};
}

bool drops(const Pass& p) { return p.gradient && p.options.dropout > 0; }

// The first Philox counter of a block: no two heads share one.
uint32_t first_counter(const Pass& p, const NeuronBlock& block) {
  return static_cast<uint32_t>(block.head * ((p.dims.neurons + 7) / 8) + block.begin / 8);
}

void set_v(const Pass& p, const NeuronBlock& block, float* v) {
  const int64_t columns = padded(p.group.rows), head = block.local / p.dims.neurons;
  p.kernels.multiply({block.count, columns, p.dims.width, p.encoder_v() + block.row * p.stride, p.stride, 1,
                      plain(p.attended_columns + head * p.stride * p.columns, p.columns), v, p.columns,
                      false});
  p.round(v, block.count * p.columns);
  const Dropout dropout = dropout_of(p);
  p.training.relu_dropout(v, block.count, columns, p.columns, drops(p) ? &dropout : nullptr,
                          first_counter(p, block));
}

// dg where g is not zero; in the dense way, everywhere.
void set_g_gradient(const Pass& p, const NeuronBlock& block, const float* g, double share, float* dg) {
  const int64_t columns = padded(p.group.rows);
  const float* decoder = p.decoder() + block.row * p.stride;
  if (share < kSampleDensity) {
    p.training.sample({block.count, columns, p.stride, g, p.columns, p.mixed, p.stride, dg, p.columns},
                      decoder);
  } else {
    p.kernels.multiply({block.count, columns, p.dims.width, decoder, p.stride, 1,
                        plain(p.mixed_columns, p.columns), dg, p.columns, false});
  }
}

void gradient_block(const Pass& p, const Heads& heads, int64_t i, float* buffer) {
  const NeuronBlock block = p.neuron_block(heads, i);
  const int64_t columns = padded(p.group.rows), floats = kBlockNeurons * p.columns;
  const int64_t head = block.local / p.dims.neurons;
  const float* n = p.n + block.local * p.columns;
  float *v = buffer, *g = v + floats, *dg = g + floats;
  float *dn = p.dn + block.local * p.columns, *dv = p.dv + block.local * p.columns;
  set_v(p, block, v);
  const int64_t active = p.training.gate_rows(n, v, block.count, columns, p.columns, p.columns, g, p.columns);
  p.round(g, block.count * p.columns);
  p.scratch.active_g[static_cast<size_t>(i)] = active;
  const double share = density(active, block.count, p.group.rows);
  set_g_gradient(p, block, g, share, dg);
  add_weight_gradient(p, block.count, g, share, p.mixed, p.decoder_gradient() + block.row * p.stride);
  const float scale = drops(p) ? p.dropout.scale : 1.0f;
  p.training.gate_gradient(n, v, dg, scale, block.count, columns, p.columns, p.columns, dn, dv, p.columns);
  add_weight_gradient(p, block.count, dv, share, p.attended + head * p.group.rows * p.stride,
                      p.encoder_v_gradient() + block.row * p.stride);
}

}  // namespace

void gate(const Pass& p, const Heads& heads) {
  const int64_t columns = padded(p.group.rows);
  p.pool.run(neuron_blocks(p, heads), [&](int64_t i, int thread) {
    const NeuronBlock block = p.neuron_block(heads, i);
    float *v = p.worker_of(thread), *g = p.dv + block.local * p.columns;
    set_v(p, block, v);
    p.scratch.active_g[static_cast<size_t>(i)] = p.training.gate_rows(
        p.n + block.local * p.columns, v, block.count, columns, p.columns, p.columns, g, p.columns);
    p.round(g, block.count * p.columns);
  });
  const double share = active_share(p, heads, p.scratch.active_g);
  p.pool.run(p.row_blocks(), [&](int64_t i, int) {
    const RowBlock block = p.row_block(i);
    for (int64_t head = 0; head < heads.count; ++head) {
      add_rows_product(p, block, of_head(p, p.dv, head), share,
                       p.decoder() + (heads.first + head) * p.dims.neurons * p.stride,
                       p.mixed + block.begin * p.stride);
    }
  });
}

void gate_gradient(const Pass& p, const Heads& heads) {
  p.pool.run(neuron_blocks(p, heads),
             [&](int64_t i, int thread) { gradient_block(p, heads, i, p.worker_of(thread)); });
}

}  // namespace bdh::cpu
