// The CPU kernels that training adds, written once and compiled for each instruction set. As kernels.cpp.
#include "kernels/cpu/training/kernels.h"

#include <cmath>

#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/generic/sine_cosine.h"
#include "kernels/cpu/isa_name.h"

namespace bdh::cpu {
namespace {

// ---- rounding to 16 bits, to nearest even ----

struct Exact {
  static Floats round(Floats v) { return v; }
};

struct ToBf16 {
  static Floats round(Floats v) {
    const Words bits = (Words)v;
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
    return (bits & 0x7fffffff) <= 0x7f800000 ? (Floats)rounded : v;
  }
};

// To the 11 bits of a half: what lies below its normal numbers is rounded to multiples of 2^-24. What lies
// above them keeps float32's exponent: scores and a, which is normalised next, may be that large.
struct ToF16 {
  static Floats round(Floats v) {
    const Words sign = (Words)v & 0x80000000, bits = (Words)v & 0x7fffffff;
    const Floats size = (Floats)bits;
    const Floats normal = (Floats)((bits + 0xfff + ((bits >> 13) & 1)) & 0xffffe000);
    const Floats small = (size + splat(0.5f)) - splat(0.5f);
    const Floats rounded = size < splat(0x1p-14f) ? small : normal;
    return bits <= 0x7f800000 ? (Floats)((Words)rounded | sign) : v;
  }
};

template <class To>
void round_to(const float* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, To::round(load(from + i)));
  if (i == count) return;
  alignas(64) float last[kLanes] = {};
  for (int64_t j = i; j < count; ++j) last[j - i] = from[j];
  store(last, To::round(load(last)));
  for (int64_t j = i; j < count; ++j) to[j] = last[j - i];
}

void round_rows(const float* from, int64_t count, DType dtype, float* to) {
  if (dtype == DType::bf16) return round_to<ToBf16>(from, count, to);
  round_to<ToF16>(from, count, to);
}

// ---- rotation ----

void sine_cosine_rows(const float* angles, int64_t count, float* cosines, float* sines) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const SineCosine t = sine_cosine(load(angles + i));
    store(cosines + i, t.cosine);
    store(sines + i, t.sine);
  }
}

template <class To>
void rotate_rows(float* n, int64_t neurons, int64_t tokens, int64_t stride, const float* cosines,
                 const float* sines, int64_t table_stride, float* r) {
  for (int64_t i = 0; i < neurons; i += 2) {
    float *even = n + i * stride, *odd = even + stride, *even_r = r + i * stride, *odd_r = even_r + stride;
    const float *even_c = cosines + i * table_stride, *odd_c = even_c + table_stride;
    const float *even_s = sines + i * table_stride, *odd_s = even_s + table_stride;
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const Floats a = relu(To::round(load(even + t))), b = relu(To::round(load(odd + t)));
      store(even + t, a);
      store(odd + t, b);
      store(even_r + t, To::round(To::round(a * load(even_c + t)) - To::round(b * load(even_s + t))));
      store(odd_r + t, To::round(To::round(b * load(odd_c + t)) + To::round(a * load(odd_s + t))));
    }
  }
}

void rotate_rows_any(float* n, int64_t neurons, int64_t tokens, int64_t stride, const float* cosines,
                     const float* sines, int64_t table_stride, DType precision, float* r) {
  const auto rotate = precision == DType::f32    ? rotate_rows<Exact>
                      : precision == DType::bf16 ? rotate_rows<ToBf16>
                                                 : rotate_rows<ToF16>;
  rotate(n, neurons, tokens, stride, cosines, sines, table_stride, r);
}

Floats where_positive(Floats n, Floats value) { return n > Floats{} ? value : Floats{}; }

void unrotate_rows(const float* dr, int64_t dr_stride, const float* n, int64_t neurons, int64_t tokens,
                   int64_t stride, const float* cosines, const float* sines, int64_t table_stride,
                   float* dn) {
  for (int64_t i = 0; i < neurons; i += 2) {
    const float *even = n + i * stride, *odd = even + stride;
    const float *even_r = dr + i * dr_stride, *odd_r = even_r + dr_stride;
    const float *even_c = cosines + i * table_stride, *odd_c = even_c + table_stride;
    const float *even_s = sines + i * table_stride, *odd_s = even_s + table_stride;
    float *even_n = dn + i * stride, *odd_n = even_n + stride;
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const Floats a = load(even_r + t), b = load(odd_r + t);
      const Floats da = a * load(even_c + t) + b * load(odd_s + t);
      const Floats db = b * load(odd_c + t) - a * load(even_s + t);
      store(even_n + t, where_positive(load(even + t), load(even_n + t) + da));
      store(odd_n + t, where_positive(load(odd + t), load(odd_n + t) + db));
    }
  }
}

// ---- norm ----

void norm_row(const float* x, int64_t width, int64_t padded, float* out, float* mean, float* scale) {
  Floats total = {};
  for (int64_t d = 0; d < padded; d += kLanes) total += load(x + d);
  *mean = sum(total) / static_cast<float>(width);
  for (int64_t d = 0; d < padded; d += kLanes) store(out + d, load(x + d) - *mean);
  for (int64_t d = width; d < padded; ++d) out[d] = 0.0f;
  Floats squares = {};
  for (int64_t d = 0; d < padded; d += kLanes) squares = multiply_add(load(out + d), load(out + d), squares);
  *scale = 1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + 1e-5f);
  for (int64_t d = 0; d < padded; d += kLanes) store(out + d, load(out + d) * *scale);
}

void norm_gradient(const float* y, float scale, const float* dy, int64_t width, int64_t padded, float* dx) {
  Floats total = {}, products = {};
  for (int64_t d = 0; d < padded; d += kLanes) {
    total += load(dy + d);
    products = multiply_add(load(dy + d), load(y + d), products);
  }
  const Floats mean = splat(sum(total) / static_cast<float>(width));
  const Floats along = splat(sum(products) / static_cast<float>(width));
  for (int64_t d = 0; d < padded; d += kLanes)
    store(dx + d, (load(dy + d) - mean - load(y + d) * along) * splat(scale));
  for (int64_t d = width; d < padded; ++d) dx[d] = 0.0f;
}

// ---- dropout: Philox4x32-10, a counter in each lane ----

struct Product32 {
  Words high, low;
};

Product32 product(Words a, uint32_t factor) {
#if defined(__AVX512F__)
  const __m512i b = _mm512_set1_epi32(static_cast<int>(factor)), x = (__m512i)a;
  const __m512i even = _mm512_maskz_mul_epu32(0xff, x, b);
  const __m512i odd = _mm512_maskz_mul_epu32(0xff, _mm512_maskz_srli_epi64(0xff, x, 32), b);
  const __m512i high = _mm512_mask_blend_epi32(0xaaaa, _mm512_maskz_srli_epi64(0xff, even, 32), odd);
  return {(Words)high, a * factor};
#elif defined(__AVX2__)
  const __m256i b = _mm256_set1_epi32(static_cast<int>(factor)), x = (__m256i)a;
  const __m256i even = _mm256_mul_epu32(x, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), b);
  return {(Words)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa), a * factor};
#else
  Words high;
  for (int i = 0; i < kLanes; ++i) high[i] = static_cast<uint32_t>((uint64_t{a[i]} * factor) >> 32);
  return {high, a * factor};
#endif
}

struct Philox {
  Words word[4];
};

Philox philox(Philox counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const Product32 a = product(counter.word[0], 0xD2511F53u), b = product(counter.word[2], 0xCD9E8D57u);
    counter = {{b.high ^ counter.word[1] ^ key0, b.low, a.high ^ counter.word[3] ^ key1, a.low}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

Words load_words(const uint32_t* from) {
  Words v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

void drop(float* v, Words number, const DropoutNumbers& dropout) {
  const Ints keep = (Ints)number >= (Ints)(Words{} + dropout.threshold);
  store(v, keep ? load(v) * splat(dropout.scale) : Floats{});
}

void drop_rows(float* v, int64_t neurons, int64_t tokens, int64_t stride, const Dropout& dropout,
               uint32_t counter) {
  for (int64_t first = 0; first < neurons; first += 8, ++counter) {
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const Philox random = philox({{Words{} + counter, load_words(dropout.token + t),
                                     load_words(dropout.sequence + t), Words{} + dropout.layer}},
                                   dropout.numbers.key[0], dropout.numbers.key[1]);
      for (int64_t i = 0; i < 8 && first + i < neurons; ++i) {
        const Words word = random.word[i / 2];
        drop(v + (first + i) * stride + t, i % 2 == 0 ? word & 0xffff : word >> 16, dropout.numbers);
      }
    }
  }
}

void relu_dropout(float* v, int64_t neurons, int64_t tokens, int64_t stride, const Dropout* dropout,
                  uint32_t counter) {
  for (int64_t i = 0; i < neurons; ++i) {
    for (int64_t t = 0; t < tokens; t += kLanes) store(v + i * stride + t, relu(load(v + i * stride + t)));
  }
  if (dropout) drop_rows(v, neurons, tokens, stride, *dropout, counter);
}

// ---- the gate ----

int64_t gate_rows(const float* n, const float* v, int64_t neurons, int64_t tokens, int64_t stride,
                  int64_t v_stride, float* g, int64_t g_stride) {
  int64_t active = 0;
  for (int64_t i = 0; i < neurons; ++i, n += stride, v += v_stride, g += g_stride) {
    Ints count = {};
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const Floats value = load(n + t) * load(v + t);
      count -= value != Floats{};
      store(g + t, value);
    }
    active += sum(count);
  }
  return active;
}

void gate_gradient(const float* n, const float* v, const float* dg, float scale, int64_t neurons,
                   int64_t tokens, int64_t stride, int64_t v_stride, float* dn, float* dv,
                   int64_t dv_stride) {
  for (int64_t i = 0; i < neurons;
       ++i, n += stride, v += v_stride, dg += v_stride, dn += stride, dv += dv_stride) {
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const Floats a = load(n + t), b = load(v + t), d = load(dg + t);
      const Ints active = (a > Floats{}) & (b > Floats{});
      store(dn + t, active ? d * b : Floats{});
      store(dv + t, active ? d * a * splat(scale) : Floats{});
    }
  }
}

// ---- those elements of a product that are wanted ----

constexpr int kSums = 4;

float dot(const float* a, const float* b, int64_t width) {
  Floats total[kSums] = {};
  int64_t d = 0;
  for (; d + kSums * kLanes <= width; d += kSums * kLanes) {
    for (int v = 0; v < kSums; ++v)
      total[v] = multiply_add(load(a + d + v * kLanes), load(b + d + v * kLanes), total[v]);
  }
  for (; d < width; d += kLanes) total[0] = multiply_add(load(a + d), load(b + d), total[0]);
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

void sample(const SparseProduct& p, const float* a) {
  for (int64_t i = 0; i < p.neurons; ++i) {
    const float *sparse = p.sparse + i * p.stride, *row = a + i * p.rows_stride;
    float* out = p.out + i * p.out_stride;
    for (int64_t t = 0; t < p.tokens; t += kLanes) {
      uint32_t lanes = nonzero_lanes(load(sparse + t));
      store(out + t, Floats{});
      for (; lanes != 0; lanes &= lanes - 1) {
        const int64_t at = t + __builtin_ctz(lanes);
        out[at] = dot(row, p.rows + at * p.rows_stride, p.width);
      }
    }
  }
}

// ---- the loss ----

// exp(v) for v <= 0, within 2e-7 of its value; 0 below -87.
Floats exp_negative(Floats v) {
  const Floats clamped = v > splat(-87.0f) ? v : splat(-87.0f);
  const Ints power = __builtin_convertvector(clamped * 1.44269504f - 0.5f, Ints);
  const Floats p = __builtin_convertvector(power, Floats);
  const Floats y = (clamped - p * 0.693359375f) + p * 2.12194440e-4f;
  Floats e = splat(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    e = multiply_add(e, y, splat(c));
  const Floats scale = (Floats)((power + 127) << 23);
  return v > splat(-87.0f) ? e * scale : Floats{};
}

double softmax_gradient(float* logits, int64_t vocab, int64_t target, float scale) {
  float most = logits[0];
  for (int64_t i = 0; i < vocab; ++i) most = logits[i] > most ? logits[i] : most;
  const float wanted = logits[target];
  Floats lanes = {};
  int64_t i = 0;
  for (; i + kLanes <= vocab; i += kLanes) {
    const Floats e = exp_negative(load(logits + i) - splat(most));
    store(logits + i, e);
    lanes += e;
  }
  if (i < vocab) {
    alignas(64) float last[kLanes];
    for (int j = 0; j < kLanes; ++j) last[j] = i + j < vocab ? logits[i + j] - most : -100.0f;
    const Floats e = exp_negative(load(last));
    store(last, e);
    lanes += e;
    for (int64_t j = i; j < vocab; ++j) logits[j] = last[j - i];
  }
  const float total = sum(lanes), factor = scale / total;
  for (i = 0; i < vocab; ++i) logits[i] *= factor;
  logits[target] -= scale;
  return std::log(static_cast<double>(total)) + (static_cast<double>(most) - static_cast<double>(wanted));
}

// ---- all parameters ----

Floats square_root(Floats v) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_sqrt_ps(0xffff, (__m512)v);
#elif defined(__AVX2__)
  return (Floats)_mm256_sqrt_ps((__m256)v);
#else
  for (int i = 0; i < kLanes; ++i) v[i] = std::sqrt(v[i]);
  return v;
#endif
}

void adamw(const AdamWNumbers& step, int64_t count, const float* gradient, float* parameters, float* exp_avg,
           float* exp_avg_sq) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats g = load(gradient + i) * splat(step.gradient_scale);
    const Floats m = load(exp_avg + i), s = load(exp_avg_sq + i);
    const Floats mean = multiply_add(splat(step.beta1_rest), g - m, m);
    const Floats square = multiply_add(splat(step.beta2_rest) * g, g, s * splat(step.beta2));
    const Floats denominator = square_root(square) / splat(step.root_correction) + splat(step.epsilon);
    store(exp_avg + i, mean);
    store(exp_avg_sq + i, square);
    store(parameters + i, load(parameters + i) * splat(step.keep) - splat(step.rate) * mean / denominator);
  }
}

void add(float* to, const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) store(to + i, load(to + i) + load(from + i));
}

void blend(float* to, const float* from, float decay, float rest, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes)
    store(to + i, load(to + i) * splat(decay) + load(from + i) * splat(rest));
}

double squared_sum(const float* values, int64_t count) {
  constexpr int64_t kPiece = 1024;
  double total = 0;
  for (int64_t i = 0; i < count; i += kPiece) {
    double piece[kLanes] = {};
    const int64_t end = i + kPiece < count ? i + kPiece : count;
    for (int64_t j = i; j < end; j += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const double value = values[j + lane];
        piece[lane] += value * value;
      }
    }
    for (int lane = 1; lane < kLanes; ++lane) piece[0] += piece[lane];
    total += piece[0];
  }
  return total;
}

}  // namespace

extern const TrainingKernels BDH_CONCAT(training_kernels_, BDH_ISA);
const TrainingKernels BDH_CONCAT(training_kernels_, BDH_ISA) = {
    BDH_STRING(BDH_ISA),
    sine_cosine_rows,
    rotate_rows_any,
    unrotate_rows,
    norm_row,
    norm_gradient,
    relu_dropout,
    gate_rows,
    gate_gradient,
    sample,
    softmax_gradient,
    adamw,
    add,
    blend,
    squared_sum,
    round_rows,
};

}  // namespace bdh::cpu
