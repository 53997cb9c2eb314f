// Loss and gradients in float64 by plain loops.
#include "tests/support/reference_training.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/horizon.h"

namespace bdh::test {

namespace {

using Numbers = std::vector<double>;

Numbers zeros(int64_t count) { return Numbers(static_cast<size_t>(count)); }

// Rows normalised, and what each was multiplied by.
struct Normed {
  Numbers rows, scales;
};

Normed norm(const Numbers& x, int64_t width) {
  Normed out{zeros(static_cast<int64_t>(x.size())), {}};
  for (size_t at = 0; at < x.size(); at += width) {
    double mean = 0, variance = 0;
    for (int64_t d = 0; d < width; ++d) mean += x[at + d] / static_cast<double>(width);
    for (int64_t d = 0; d < width; ++d)
      variance += (x[at + d] - mean) * (x[at + d] - mean) / static_cast<double>(width);
    out.scales.push_back(1 / std::sqrt(variance + 1e-5));
    for (int64_t d = 0; d < width; ++d) out.rows[at + d] = (x[at + d] - mean) * out.scales.back();
  }
  return out;
}

// The gradient of what was normed, from that of the rows.
Numbers norm_backward(const Normed& normed, const Numbers& gradient, int64_t width) {
  Numbers out = zeros(static_cast<int64_t>(gradient.size()));
  for (size_t row = 0; row < normed.scales.size(); ++row) {
    const size_t at = row * width;
    double mean = 0, along = 0;
    for (int64_t d = 0; d < width; ++d) {
      mean += gradient[at + d] / static_cast<double>(width);
      along += gradient[at + d] * normed.rows[at + d] / static_cast<double>(width);
    }
    for (int64_t d = 0; d < width; ++d)
      out[at + d] = normed.scales[row] * (gradient[at + d] - mean - normed.rows[at + d] * along);
  }
  return out;
}

double angle(float freq, int64_t position, bool exact) {
  if (!exact) return double{rounded_angle(position, freq)};
  const double turns = static_cast<double>(position) * double{freq};
  return (turns - std::floor(turns)) * 6.283185307179586;
}

// What one layer computed for one sequence.
struct Kept {
  Numbers x;          // (T, D)
  Numbers n, r;       // (T, H, N)
  Normed a;           // (T, H, D)
  Numbers v, g;       // (T, H, N)
  Numbers dropped;    // (T, H, N): what g was multiplied by
  Normed mixed, out;  // (T, D)
};

// One sequence of a micro-batch.
class Sequence {
 public:
  Sequence(const ReferenceModel& model, const NamedNumbers& parameters, int64_t tokens, int64_t position)
      : model_(model),
        parameters_(parameters),
        T(tokens),
        D(model.dims.width),
        H(model.dims.heads),
        N(model.dims.neurons),
        position_(position) {}

  // s (H, N, D), moved on behind the last token; or null.
  Kept layer(int64_t layer, const Numbers& x, double* s, int64_t sequence, const DropoutMask& mask) const {
    const Numbers &encoder = weights("encoder", layer), &encoder_v = weights("encoder_v", layer);
    const Numbers& decoder = weights("decoder", layer);
    Kept kept{x, zeros(T * H * N), {}, {}, zeros(T * H * N), zeros(T * H * N), Numbers(T * H * N, 1.0), {},
              {}};
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t i = 0; i < N; ++i) {
          double sum = 0;
          for (int64_t d = 0; d < D; ++d) sum += x[t * D + d] * encoder[(h * D + d) * N + i];
          kept.n[(t * H + h) * N + i] = std::max(sum, 0.0);
        }
    kept.r = rotate(kept.n, 1);
    kept.a = norm(attend(kept, s), D);
    Numbers mixed = zeros(T * D);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t j = 0; j < H * N; ++j) {
        const int64_t h = j / N, i = j % N;
        double sum = 0;
        for (int64_t d = 0; d < D; ++d)
          sum += kept.a.rows[(t * H + h) * D + d] * encoder_v[(h * D + d) * N + i];
        const int64_t at = t * H * N + j;
        kept.v[at] = std::max(sum, 0.0);
        if (mask) kept.dropped[at] = mask(layer, sequence, t, j);
        kept.g[at] = kept.n[at] * kept.v[at] * kept.dropped[at];
        for (int64_t d = 0; d < D; ++d) mixed[t * D + d] += kept.g[at] * decoder[j * D + d];
      }
    kept.mixed = norm(mixed, D);
    Numbers sum = x;
    for (int64_t at = 0; at < T * D; ++at) sum[at] += kept.mixed.rows[at];
    kept.out = norm(sum, D);
    if (s) move_on(kept, s);
    return kept;
  }

  // The gradient of x; those of the weights are added to. s (H, N, D) as it was before the first token.
  Numbers layer_backward(int64_t layer, const Kept& kept, const double* s, const Numbers& d_out,
                         NamedNumbers& gradients) const {
    const Numbers &encoder = weights("encoder", layer), &encoder_v = weights("encoder_v", layer);
    const Numbers& decoder = weights("decoder", layer);
    Numbers &d_encoder = gradients.at(name("encoder", layer)),
            &d_encoder_v = gradients.at(name("encoder_v", layer));
    Numbers& d_decoder = gradients.at(name("decoder", layer));

    Numbers dx = norm_backward(kept.out, d_out, D);
    const Numbers d_mixed = norm_backward(kept.mixed, dx, D);
    Numbers dn = zeros(T * H * N), du = zeros(T * H * D);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t j = 0; j < H * N; ++j) {
        const int64_t at = t * H * N + j, h = j / N, i = j % N;
        double dg = 0;
        for (int64_t d = 0; d < D; ++d) {
          dg += d_mixed[t * D + d] * decoder[j * D + d];
          d_decoder[j * D + d] += kept.g[at] * d_mixed[t * D + d];
        }
        dg *= kept.dropped[at];
        dn[at] = dg * kept.v[at];
        const double dv = kept.v[at] > 0 ? dg * kept.n[at] : 0.0;
        for (int64_t d = 0; d < D; ++d) {
          du[(t * H + h) * D + d] += dv * encoder_v[(h * D + d) * N + i];
          d_encoder_v[(h * D + d) * N + i] += dv * kept.a.rows[(t * H + h) * D + d];
        }
      }
    const Numbers da = norm_backward(kept.a, du, D);
    const Numbers turned = rotate(attend_backward(kept, s, da, dx), -1);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t j = 0; j < H * N; ++j) {
        const int64_t at = t * H * N + j, h = j / N, i = j % N;
        if (kept.n[at] <= 0) continue;
        const double d_here = dn[at] + turned[at];
        for (int64_t d = 0; d < D; ++d) {
          dx[t * D + d] += d_here * encoder[(h * D + d) * N + i];
          d_encoder[(h * D + d) * N + i] += d_here * kept.x[t * D + d];
        }
      }
    return dx;
  }

 private:
  std::string name(const char* weight, int64_t layer) const {
    return parameters_.contains(weight) ? weight : std::string(weight) + "." + std::to_string(layer);
  }
  const Numbers& weights(const char* weight, int64_t layer) const {
    return parameters_.at(name(weight, layer));
  }

  double worth(int64_t h, int64_t distance) const {
    return model_.horizons.empty() ? 1.0
                                   : std::exp(-static_cast<double>(distance) / double{model_.horizons[h]});
  }

  // direction -1: the transpose.
  Numbers rotate(const Numbers& n, int direction) const {
    Numbers r = zeros(T * H * N);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t j = 0; j < H * N; j += 2) {
        const int64_t at = t * H * N + j;
        for (int64_t k = 0; k < 2; ++k) {  // each neuron is turned by the angle of its own frequency
          const double own = angle(model_.freqs[j % N + k], position_ + t, !model_.horizons.empty());
          const double other = angle(model_.freqs[j % N + 1 - k], position_ + t, !model_.horizons.empty());
          const double sine = direction > 0 ? (k == 0 ? -std::sin(own) : std::sin(own))
                                            : (k == 0 ? std::sin(other) : -std::sin(other));
          r[at + k] = n[at + k] * std::cos(own) + n[at + 1 - k] * sine;
        }
      }
    return r;
  }

  double score(const Kept& kept, int64_t h, int64_t t, int64_t before) const {
    double sum = 0;
    for (int64_t i = 0; i < N; ++i) sum += kept.r[(t * H + h) * N + i] * kept.r[(before * H + h) * N + i];
    return sum * worth(h, t - before);
  }

  Numbers attend(const Kept& kept, const double* s) const {
    Numbers a = zeros(T * H * D);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h) {
        double* row = &a[(t * H + h) * D];
        for (int64_t i = 0; s && i < N; ++i)
          for (int64_t d = 0; d < D; ++d)
            row[d] += worth(h, t) * kept.r[(t * H + h) * N + i] * s[(h * N + i) * D + d];
        for (int64_t before = 0; before < t; ++before) {
          const double m = score(kept, h, t, before);
          for (int64_t d = 0; d < D; ++d) row[d] += m * kept.x[before * D + d];
        }
      }
    return a;
  }

  // Returns dr; adds to dx.
  Numbers attend_backward(const Kept& kept, const double* s, const Numbers& da, Numbers& dx) const {
    Numbers dr = zeros(T * H * N);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h) {
        const double* row = &da[(t * H + h) * D];
        for (int64_t i = 0; s && i < N; ++i)
          for (int64_t d = 0; d < D; ++d)
            dr[(t * H + h) * N + i] += worth(h, t) * row[d] * s[(h * N + i) * D + d];
        for (int64_t before = 0; before < t; ++before) {
          const double m = score(kept, h, t, before);
          double dm = 0;
          for (int64_t d = 0; d < D; ++d) {
            dm += row[d] * kept.x[before * D + d];
            dx[before * D + d] += m * row[d];
          }
          dm *= worth(h, t - before);
          for (int64_t i = 0; i < N; ++i) {
            dr[(t * H + h) * N + i] += dm * kept.r[(before * H + h) * N + i];
            dr[(before * H + h) * N + i] += dm * kept.r[(t * H + h) * N + i];
          }
        }
      }
    return dr;
  }

  void move_on(const Kept& kept, double* s) const {
    for (int64_t h = 0; h < H; ++h)
      for (int64_t i = 0; i < N; ++i)
        for (int64_t d = 0; d < D; ++d) {
          double sum = worth(h, T) * s[(h * N + i) * D + d];
          for (int64_t t = 0; t < T; ++t)
            sum += worth(h, T - t) * kept.r[(t * H + h) * N + i] * kept.x[t * D + d];
          s[(h * N + i) * D + d] = sum;
        }
  }

  const ReferenceModel& model_;
  const NamedNumbers& parameters_;
  const int64_t T, D, H, N;
  const int64_t position_;
};

// Adds one sequence's loss; returns the gradient of x (T, D).
Numbers logits_and_loss(const Dimensions& dims, const NamedNumbers& parameters, const Numbers& x,
                        std::span<const int32_t> targets, ReferenceLoss& loss) {
  const Numbers& head = parameters.at("lm_head");
  Numbers &d_head = loss.gradients.at("lm_head"), dx = zeros(static_cast<int64_t>(x.size()));
  const int64_t D = dims.width, V = dims.vocab;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    Numbers p = zeros(V);
    for (int64_t d = 0; d < D; ++d)
      for (int64_t k = 0; k < V; ++k) p[k] += x[t * D + d] * head[d * V + k];
    const double largest = *std::max_element(p.begin(), p.end());
    const double right = p[targets[t]];
    double total = 0;
    for (double& value : p) total += value = std::exp(value - largest);
    for (double& value : p) value /= total;
    loss.nats += std::log(total) + largest - right;
    ++loss.tokens;
    p[targets[t]] -= 1;
    for (int64_t d = 0; d < D; ++d)
      for (int64_t k = 0; k < V; ++k) {
        d_head[d * V + k] += x[t * D + d] * p[k];
        dx[t * D + d] += p[k] * head[d * V + k];
      }
  }
  return dx;
}

}  // namespace

ReferenceLoss reference_gradient(const ReferenceModel& model, const NamedNumbers& parameters,
                                 const MicroBatch& batch, ReferenceState* state, const DropoutMask& mask) {
  const Dimensions& dims = model.dims;
  const int64_t T = batch.tokens, D = dims.width;
  const int64_t of_state = dims.heads * dims.neurons * D;
  ReferenceLoss loss;
  for (const auto& [name, values] : parameters) loss.gradients[name].resize(values.size());
  if (state && state->s.empty()) state->s = zeros(dims.layers * batch.sequences * of_state);
  const Numbers before = state ? state->s : Numbers();
  const int64_t position = state ? state->position : 0;

  for (int64_t b = 0; b < batch.sequences; ++b) {
    const Sequence sequence(model, parameters, T, position);
    const auto inputs = batch.inputs.subspan(b * T, T);
    const auto state_at = [&](int64_t layer) { return (layer * batch.sequences + b) * of_state; };
    Numbers embedded;
    for (const int32_t token : inputs) {
      const double* row = &parameters.at("embed.weight")[token * D];
      embedded.insert(embedded.end(), row, row + D);
    }
    const Normed first = norm(embedded, D);
    std::vector<Kept> kept;
    for (int64_t layer = 0; layer < dims.layers; ++layer)
      kept.push_back(sequence.layer(layer, layer == 0 ? first.rows : kept.back().out.rows,
                                    state ? &state->s[state_at(layer)] : nullptr, b, mask));
    Numbers dx =
        logits_and_loss(dims, parameters, kept.back().out.rows, batch.targets.subspan(b * T, T), loss);
    for (int64_t layer = dims.layers - 1; layer >= 0; --layer)
      dx = sequence.layer_backward(layer, kept[layer], state ? &before[state_at(layer)] : nullptr, dx,
                                   loss.gradients);
    dx = norm_backward(first, dx, D);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t d = 0; d < D; ++d) loss.gradients.at("embed.weight")[inputs[t] * D + d] += dx[t * D + d];
  }
  if (state) state->position += T;
  return loss;
}

NamedNumbers named_numbers(const TensorMap& tensors) {
  NamedNumbers out;
  for (const auto& [name, tensor] : tensors) {
    if (name == "attn.freqs") continue;
    const Tensor wide = converted(tensor, DType::f64);
    out[name].resize(static_cast<size_t>(wide.numel()));
    std::memcpy(out[name].data(), wide.data, wide.bytes());
  }
  return out;
}

double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

}  // namespace bdh::test
