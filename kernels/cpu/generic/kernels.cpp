// The CPU kernels, written once and compiled for each instruction set (CMake defines BDH_ISA as its name).
// Only internal linkage but for the table: see simd.h.
#include "kernels/cpu/kernels.h"

#include <cmath>

#include "kernels/cpu/generic/quantized_rows.h"
#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/generic/sine_cosine.h"

namespace bdh::cpu {
namespace {

// ---- rows: the products of one token, limited by how fast the rows arrive from memory ----
//
// The processor's own prefetching follows rows in the order of memory only so far, and not at all where
// inactive rows are skipped: the rows to come are asked for by hand, into the second cache.

enum class Order { dense, gathered };

template <class Element, Order order>
struct RowList {
  const Element* data;
  int64_t stride;
  const int32_t* index;
  int64_t count;
  int64_t row_bytes;
  int64_t ahead;  // rows

  RowList(const Rows& rows, const int32_t* list, int64_t rows_in_it, int64_t width)
      : data(static_cast<const Element*>(rows.data)),
        stride(rows.stride),
        index(list),
        count(rows_in_it),
        row_bytes(width * static_cast<int64_t>(sizeof(Element))),
        ahead(rows_ahead(row_bytes)) {}

  const Element* operator[](int64_t i) const {
    return data + (order == Order::dense ? i : index[i]) * stride;
  }

  [[gnu::always_inline]] void prefetch_after(int64_t i) const {
    if (i + ahead >= count) return;
    prefetch_bytes((*this)[i + ahead], row_bytes);
  }
};

// Rows that are multiplied side by side, each with a sum of its own: enough to hide the latency of a
// multiply-add. A row's sum does not depend on which rows it is together with.
template <int Count, class Element, Order order>
void dot_some(const RowList<Element, order>& rows, int64_t first, int64_t width, const float* x, float* out) {
  const Element* row[Count];
  for (int i = 0; i < Count; ++i) row[i] = rows[first + i];
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Floats numbers = load(x + d);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) total[i] = multiply_add(load(row[i] + d), numbers, total[i]);
  }
  float sums[kTogether];
  sum_lanes(total, sums);
  for (int i = 0; i < Count; ++i) out[first + i] = sums[i];
}

// X: what dot_some takes for x.
template <class X, class Element, Order order>
void dot_rows(const RowList<Element, order>& rows, int64_t width, const X& x, float* out) {
  int64_t i = 0;
  for (; i + kTogether <= rows.count; i += kTogether) {
    for (int j = 0; j < kTogether; ++j) rows.prefetch_after(i + j);
    dot_some<kTogether>(rows, i, width, x, out);
  }
  for (; i < rows.count; ++i) dot_some<1>(rows, i, width, x, out);
}

// Vectors of `out` that stay in registers while the rows pass.
constexpr int kHeld = kLanes == 16 ? 16 : 8;

template <int Vectors, class Element, Order order>
void accumulate_columns(const RowList<Element, order>& rows, const float* scale, int64_t column, float* out) {
  Floats total[Vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) total[v] = load(out + column + v * kLanes);
  for (int64_t i = 0; i < rows.count; ++i) {
    if (column == 0) rows.prefetch_after(i);
    const Element* row = rows[i] + column;
    const Floats weight = splat(scale ? scale[i] : 1.0f);
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) total[v] = multiply_add(load(row + v * kLanes), weight, total[v]);
  }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) store(out + column + v * kLanes, total[v]);
}

// Columns from `column` on: as many whole blocks of Vectors as there are, then blocks of half the size.
template <int Vectors, class Element, Order order>
void accumulate_from(const RowList<Element, order>& rows, const float* scale, int64_t column, int64_t width,
                     float* out) {
  for (; column + Vectors * kLanes <= width; column += Vectors * kLanes) {
    accumulate_columns<Vectors>(rows, scale, column, out);
  }
  if constexpr (Vectors > 1) accumulate_from<Vectors / 2>(rows, scale, column, width, out);
}

// bfloat16 rows are read as words of two numbers each, which a shift and a mask make floats; x is divided
// into its even and its odd numbers once for all rows.
constexpr int64_t kMostDivided = 4096;

struct DividedX {
  alignas(64) float even[kMostDivided / 2], odd[kMostDivided / 2];

  DividedX(const float* x, int64_t width) {
    for (int64_t d = 0; d < width; d += 2 * kLanes) {
      const Floats upper = d + kLanes < width ? load(x + d + kLanes) : Floats{};
      store(even + d / 2, every_second_lane<0>(load(x + d), upper));
      store(odd + d / 2, every_second_lane<1>(load(x + d), upper));
    }
  }
};

template <int Count, Order order>
void dot_some(const RowList<BFloat16, order>& rows, int64_t first, int64_t width, const DividedX& x,
              float* out) {
  const BFloat16* row[Count];
  for (int i = 0; i < Count; ++i) row[i] = rows[first + i];
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += 2 * kLanes) {
    const Floats even = load(x.even + d / 2), odd = load(x.odd + d / 2);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) {
      const Words words = load_words(row[i] + d, width - d);
      total[i] = multiply_add((Floats)(words << 16), even, total[i]);
      total[i] = multiply_add((Floats)(words & 0xffff0000), odd, total[i]);
    }
  }
  float sums[kTogether];
  sum_lanes(total, sums);
  for (int i = 0; i < Count; ++i) out[first + i] = sums[i];
}

bool dot_divided_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                      float* out) {
  if (width > kMostDivided) return false;
  const DividedX divided(x, width);
  if (index) {
    dot_rows(RowList<BFloat16, Order::gathered>(rows, index, count, width), width, divided, out);
  } else {
    dot_rows(RowList<BFloat16, Order::dense>(rows, index, count, width), width, divided, out);
  }
  return true;
}

template <class Element>
void dot_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
              float* out) {
  if (index) return dot_rows(RowList<Element, Order::gathered>(rows, index, count, width), width, x, out);
  dot_rows(RowList<Element, Order::dense>(rows, index, count, width), width, x, out);
}

template <class Element>
void accumulate_rows(const Rows& rows, const int32_t* index, const float* scale, int64_t count, int64_t width,
                     float* out) {
  if (index)
    return accumulate_from<kHeld>(RowList<Element, Order::gathered>(rows, index, count, width), scale, 0,
                                  width, out);
  accumulate_from<kHeld>(RowList<Element, Order::dense>(rows, index, count, width), scale, 0, width, out);
}

void dot_rows_any(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                  float* out) {
  switch (rows.dtype) {
    case DType::bf16:
      if (dot_divided_rows(rows, index, count, width, x, out)) return;
      return dot_rows<BFloat16>(rows, index, count, width, x, out);
    case DType::f16:
      return dot_rows<Float16>(rows, index, count, width, x, out);
    case DType::i8:
    case DType::u8:
      return dot_quantized_rows(rows, index, count, width, x, out);
    default:
      return dot_rows<float>(rows, index, count, width, x, out);
  }
}

void accumulate_rows_any(const Rows& rows, const int32_t* index, const float* scale, int64_t count,
                         int64_t width, float* out) {
  switch (rows.dtype) {
    case DType::bf16:
      return accumulate_rows<BFloat16>(rows, index, scale, count, width, out);
    case DType::f16:
      return accumulate_rows<Float16>(rows, index, scale, count, width, out);
    case DType::i8:
    case DType::u8:
      return accumulate_quantized_rows(rows, index, scale, count, width, out);
    default:
      return accumulate_rows<float>(rows, index, scale, count, width, out);
  }
}

// ---- matrix product: the work of a chunk, limited by arithmetic ----

// A tile of kTileRows x kTileVectors vectors of C stays in registers while k runs.
#if defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVectors = 2;
#elif defined(__aarch64__)
constexpr int kTileRows = 8, kTileVectors = 3;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 2;
#endif
constexpr int64_t kTileColumns = kTileVectors * kLanes;
constexpr int64_t kDepth = 128;  // a panel of B, kDepth x kTileColumns, fits half of the first cache

template <int M>
void multiply_tile(int64_t k, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t b_row,
                   float* c, int64_t c_row, bool add) {
  Floats total[M][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) total[i][v] = add ? load(c + i * c_row + v * kLanes) : Floats{};
  }
  for (int64_t p = 0; p < k; ++p) {
    Floats row[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) row[v] = load(b + p * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const Floats scale = splat(a[i * a_row + p * a_column]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) total[i][v] = multiply_add(scale, row[v], total[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) store(c + i * c_row + v * kLanes, total[i][v]);
  }
}

using Tile = void (*)(int64_t, const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t, bool);

template <int... M>
struct TileTable {
  Tile of_height[sizeof...(M) + 1] = {nullptr, multiply_tile<M>...};
};

#if defined(__AVX512F__)
constexpr TileTable<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14> kTiles;
#elif defined(__aarch64__)
constexpr TileTable<1, 2, 3, 4, 5, 6, 7, 8> kTiles;
#elif defined(__AVX2__)
constexpr TileTable<1, 2, 3, 4, 5, 6> kTiles;
#else
constexpr TileTable<1, 2, 3, 4> kTiles;
#endif

// One tile at the right edge: columns beyond `columns` are computed in a buffer and dropped.
void multiply_edge(int64_t height, int64_t columns, int64_t k, const float* a, int64_t a_row,
                   int64_t a_column, const float* panel, float* c, int64_t c_row, bool add) {
  alignas(64) float buffer[kTileRows * kTileColumns] = {};
  for (int64_t i = 0; add && i < height; ++i) {
    for (int64_t j = 0; j < columns; ++j) buffer[i * kTileColumns + j] = c[i * c_row + j];
  }
  kTiles.of_height[height](k, a, a_row, a_column, panel, kTileColumns, buffer, kTileColumns, add);
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * c_row + j] = buffer[i * kTileColumns + j];
  }
}

template <class Element>
void pack_panel(const Element* b, int64_t stride, int64_t k, int64_t columns, float* panel) {
  for (int64_t p = 0; p < k; ++p, b += stride, panel += kTileColumns) {
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) store(panel + j, load(b + j));
    if (j == kTileColumns) continue;
    Element last[kTileColumns] = {};
    for (int64_t e = j; e < columns; ++e) last[e - j] = b[e];
    for (int64_t e = j; e < kTileColumns; e += kLanes) store(panel + e, load(last + (e - j)));
  }
}

void pack_panel_any(const Rows& b, int64_t row, int64_t column, int64_t k, int64_t columns, float* panel) {
  const int64_t at = row * b.stride + column;
  switch (b.dtype) {
    case DType::bf16:
      return pack_panel(static_cast<const BFloat16*>(b.data) + at, b.stride, k, columns, panel);
    case DType::f16:
      return pack_panel(static_cast<const Float16*>(b.data) + at, b.stride, k, columns, panel);
    default:
      return pack_panel(static_cast<const float*>(b.data) + at, b.stride, k, columns, panel);
  }
}

// Heights of tiles are made equal, so that no thin tile is left at the end.
int64_t tile_height(int64_t m) {
  const int64_t tiles = (m + kTileRows - 1) / kTileRows;
  return (m + tiles - 1) / tiles;
}

void multiply_panel(const Product& p, int64_t row, int64_t k, int64_t column, int64_t columns,
                    const float* panel, bool add) {
  const int64_t most = tile_height(p.m);
  for (int64_t i = 0; i < p.m; i += most) {
    const int64_t height = p.m - i < most ? p.m - i : most;
    const float* a = p.a + i * p.a_row + row * p.a_column;
    float* c = p.c + i * p.c_row + column;
    if (columns == kTileColumns) {
      kTiles.of_height[height](k, a, p.a_row, p.a_column, panel, kTileColumns, c, p.c_row, add);
    } else {
      multiply_edge(height, columns, k, a, p.a_row, p.a_column, panel, c, p.c_row, add);
    }
  }
}

// One vector of columns, as a chunk of few tokens has: every row of A passes once, a few of them side by
// side.
constexpr int kNarrowRows = 6;

template <int M>
void multiply_narrow_rows(const Product& p, int64_t i) {
  const float* a = p.a + i * p.a_row;
  const auto* b = static_cast<const float*>(p.b.data);
  Floats total[M];
#pragma GCC unroll 16
  for (int j = 0; j < M; ++j) total[j] = p.add ? load(p.c + (i + j) * p.c_row) : Floats{};
  for (int64_t k = 0; k < p.k; ++k) {
    const Floats row = load(b + k * p.b.stride);
#pragma GCC unroll 16
    for (int j = 0; j < M; ++j)
      total[j] = multiply_add(splat(a[j * p.a_row + k * p.a_column]), row, total[j]);
  }
#pragma GCC unroll 16
  for (int j = 0; j < M; ++j) store(p.c + (i + j) * p.c_row, total[j]);
}

void multiply_narrow(const Product& p) {
  int64_t i = 0;
  for (; i + kNarrowRows <= p.m; i += kNarrowRows) multiply_narrow_rows<kNarrowRows>(p, i);
  for (; i < p.m; ++i) multiply_narrow_rows<1>(p, i);
}

// Few rows of A: B is read once, row after row, and C stays in cache.
constexpr int kFewRows = 14;
constexpr int64_t kRowsTogether = 8;

template <int K, class Element>
void add_rows(const Product& p, const Element* b, int64_t k) {
  b += k * p.b.stride;
  const float* a = p.a + k * p.a_column;
  for (int64_t column = 0; column < p.n; column += kLanes) {
    Floats row[K];
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) row[j] = load(b + j * p.b.stride + column);
    for (int64_t i = 0; i < p.m; ++i) {
      Floats total = load(p.c + i * p.c_row + column);
#pragma GCC unroll 16
      for (int j = 0; j < K; ++j) total = multiply_add(splat(a[i * p.a_row + j * p.a_column]), row[j], total);
      store(p.c + i * p.c_row + column, total);
    }
  }
}

template <class Element>
void multiply_few(const Product& p, const Element* b) {
  if (!p.add) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t column = 0; column < p.n; column += kLanes) store(p.c + i * p.c_row + column, Floats{});
    }
  }
  int64_t k = 0;
  for (; k + kRowsTogether <= p.k; k += kRowsTogether) add_rows<kRowsTogether>(p, b, k);
  for (; k < p.k; ++k) add_rows<1>(p, b, k);
}

void multiply_few_any(const Product& p) {
  switch (p.b.dtype) {
    case DType::bf16:
      return multiply_few(p, static_cast<const BFloat16*>(p.b.data));
    case DType::f16:
      return multiply_few(p, static_cast<const Float16*>(p.b.data));
    default:
      return multiply_few(p, static_cast<const float*>(p.b.data));
  }
}

void multiply(const Product& p) {
  if (p.m == 0 || p.n == 0) return;
  if (p.n == kLanes && p.b.dtype == DType::f32) return multiply_narrow(p);
  if (p.m <= kFewRows && p.n % kLanes == 0) return multiply_few_any(p);
  alignas(64) float panel[kDepth * kTileColumns];
  for (int64_t column = 0; column < p.n; column += kTileColumns) {
    const int64_t columns = p.n - column < kTileColumns ? p.n - column : kTileColumns;
    for (int64_t row = 0; row < p.k; row += kDepth) {
      const int64_t k = p.k - row < kDepth ? p.k - row : kDepth;
      pack_panel_any(p.b, row, column, k, columns, panel);
      multiply_panel(p, row, k, column, columns, panel, p.add || row > 0);
    }
  }
}

// ---- rotation (spec: pair (2i, 2i+1) rotated by 2 pi frac(t f_i); the phase is rounded as float32 at each
// step) ----

// positions * freqs turns; the whole turns dropped (exactly), the rest as an angle.
SineCosine sine_cosine_at(Floats positions, Floats freqs) {
  const Floats phase = positions * freqs;
  const Floats whole = __builtin_convertvector(__builtin_convertvector(phase, Ints), Floats);
  return sine_cosine((phase - whole) * 6.28318530718f);
}

// One vector of neurons: n = relu(n), r = n rotated.
void rotate_lanes(float* n, const SineCosine& t, Floats sign, float* r) {
  const Floats value = relu(load(n));
  store(n, value);
  store(r, value * t.cosine + shuffle_lanes<1>(value) * sign * t.sine);
}

void rotate(float* n, const float* freqs, int64_t count, float position, float* r) {
  const Floats sign = alternating_sign();
  for (int64_t i = 0; i < count; i += kLanes)
    rotate_lanes(n + i, sine_cosine_at(splat(position), load(freqs + i)), sign, r + i);
}

void rotate_by(float* n, const float* angles, int64_t count, float* r) {
  const Floats sign = alternating_sign();
  for (int64_t i = 0; i < count; i += kLanes) rotate_lanes(n + i, sine_cosine(load(angles + i)), sign, r + i);
}

// phase(neuron, token): sine and cosine for the vector of tokens from `token` on.
template <class Phase>
void rotate_pairs(float* n, const float* freqs, int64_t neurons, int64_t tokens, int64_t stride, float* r,
                  const Phase& phase) {
  for (int64_t i = 0; i < neurons; i += 2) {
    float* even = n + i * stride;
    float* odd = even + stride;
    float* even_r = r + i * stride;
    float* odd_r = even_r + stride;
    const bool shared = freqs[i] == freqs[i + 1];
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const SineCosine even_phase = phase(i, t);
      const SineCosine odd_phase = shared ? even_phase : phase(i + 1, t);
      const Floats a = relu(load(even + t)), b = relu(load(odd + t));
      store(even + t, a);
      store(odd + t, b);
      store(even_r + t, a * even_phase.cosine - b * even_phase.sine);
      store(odd_r + t, b * odd_phase.cosine + a * odd_phase.sine);
    }
  }
}

void rotate_chunk(float* n, const float* freqs, int64_t neurons, int64_t tokens, int64_t stride,
                  const float* positions, float* r) {
  rotate_pairs(n, freqs, neurons, tokens, stride, r,
               [=](int64_t i, int64_t t) { return sine_cosine_at(load(positions + t), splat(freqs[i])); });
}

void rotate_chunk_by(float* n, const float* freqs, int64_t neurons, int64_t tokens, int64_t stride,
                     const float* angles, float* r) {
  rotate_pairs(n, freqs, neurons, tokens, stride, r,
               [=](int64_t i, int64_t t) { return sine_cosine(load(angles + i * stride + t)); });
}

// ---- the rest ----

// Magnitudes compare as their bits do, which is the cheapest comparison.
void decay(float* values, int64_t count, float factor) {
  const Ints smallest = (Ints)splat(kSmallest), magnitude = Ints{} + INT32_MAX;
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kLanes) {
    const Ints value = (Ints)(load(values + i) * splat(factor));
    store(values + i, (Floats)(value & ((value & magnitude) > smallest)));
  }
}

int64_t gate_chunk(const float* n, int64_t n_stride, float* v, int64_t v_stride, int64_t neurons,
                   int64_t tokens) {
  int64_t positive = 0;
  for (int64_t i = 0; i < neurons; ++i, n += n_stride, v += v_stride) {
    Ints count = {};
    for (int64_t t = 0; t < tokens; t += kLanes) {
      const Floats value = relu(load(v + t));
      count -= value > Floats{};
      store(v + t, value * load(n + t));
    }
    positive += sum(count);
  }
  return positive;
}

#if defined(__AVX512F__)
int64_t compact(const float* values, const int32_t* index, int64_t count, float* kept, int32_t* kept_index) {
  int64_t active = 0;
  __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < count; i += kLanes, places = _mm512_add_epi32(places, _mm512_set1_epi32(kLanes))) {
    const auto inside = static_cast<__mmask16>(count - i < kLanes ? (1u << (count - i)) - 1 : 0xffffu);
    const __m512 some = _mm512_maskz_loadu_ps(inside, values + i);
    const __m512i from = index ? _mm512_maskz_loadu_epi32(inside, index + i) : places;
    const __mmask16 chosen = _mm512_cmp_ps_mask(some, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    _mm512_storeu_ps(kept + active, _mm512_maskz_compress_ps(chosen, some));
    _mm512_storeu_si512(kept_index + active, _mm512_maskz_compress_epi32(chosen, from));
    active += __builtin_popcount(chosen);
  }
  return active;
}
#else
int64_t compact(const float* values, const int32_t* index, int64_t count, float* kept, int32_t* kept_index) {
  int64_t active = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float value = values[i];
    kept_index[active] = index ? index[i] : static_cast<int32_t>(i);
    kept[active] = value;
    active += value != 0.0f;
  }
  return active;
}
#endif

int64_t count_active(const float* rows, int64_t stride, int64_t count, int64_t tokens) {
  int64_t active = 0;
  for (int64_t i = 0; i < count; ++i, rows += stride) {
    Ints lanes = {};
    for (int64_t t = 0; t < tokens; t += kLanes) lanes -= load(rows + t) != Floats{};
    active += sum(lanes);
  }
  return active;
}

int64_t count_pairs(const float* rows, int64_t stride, int64_t pairs, int64_t tokens) {
  int64_t active = 0;
  for (int64_t i = 0; i < pairs; ++i, rows += 2 * stride) {
    Ints lanes = {};
    for (int64_t t = 0; t < tokens; t += kLanes) {
      lanes -= (load(rows + t) != Floats{}) | (load(rows + stride + t) != Floats{});
    }
    active += sum(lanes);
  }
  return active;
}

void norm(const float* x, int64_t width, int64_t padded, float* out) {
  Floats total = {};
  for (int64_t d = 0; d < padded; d += kLanes) total += load(x + d);
  const float mean = sum(total) / static_cast<float>(width);
  for (int64_t d = 0; d < padded; d += kLanes) store(out + d, load(x + d) - mean);
  for (int64_t d = width; d < padded; ++d) out[d] = 0.0f;
  Floats squares = {};
  for (int64_t d = 0; d < padded; d += kLanes) squares = multiply_add(load(out + d), load(out + d), squares);
  const float scale = 1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + 1e-5f);
  for (int64_t d = 0; d < padded; d += kLanes) store(out + d, load(out + d) * scale);
}

template <class Element>
void widen_rows(const Element* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) store(to + i, load(from + i));
}

void widen(const void* from, DType dtype, int64_t count, float* to) {
  switch (dtype) {
    case DType::bf16:
      return widen_rows(static_cast<const BFloat16*>(from), count, to);
    case DType::f16:
      return widen_rows(static_cast<const Float16*>(from), count, to);
    default:
      return widen_rows(static_cast<const float*>(from), count, to);
  }
}

void narrow(const float* from, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Words bits = (Words)load(from + i);
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const Words number = (Words)((bits & 0x7fffffff) <= 0x7f800000);  // not NaN
    const Halves halves = __builtin_convertvector((rounded & number) | (0x7fc0 & ~number), Halves);
    __builtin_memcpy(to + i, &halves, sizeof halves);
  }
}

}  // namespace

#define BDH_CONCAT2(a, b) a##b
#define BDH_CONCAT(a, b) BDH_CONCAT2(a, b)
#define BDH_STRING2(a) #a
#define BDH_STRING(a) BDH_STRING2(a)

extern const Kernels BDH_CONCAT(kernels_, BDH_ISA);
const Kernels BDH_CONCAT(kernels_, BDH_ISA) = {
    BDH_STRING(BDH_ISA),
    dot_rows_any,
    accumulate_rows_any,
    multiply,
    rotate,
    rotate_chunk,
    rotate_by,
    rotate_chunk_by,
    decay,
    gate_chunk,
    compact,
    count_active,
    count_pairs,
    norm,
    widen,
    narrow,
    widen_quantized,
};

}  // namespace bdh::cpu
