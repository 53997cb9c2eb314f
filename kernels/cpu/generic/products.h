// Matrix products, the work of a chunk, and what is done with a tile of one while it is in the first cache.
// Limited by arithmetic. Included by files compiled for one instruction set: see simd.h.
#pragma once

#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/generic/sine_cosine.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {
namespace {

// k runs in slices of kDepth. Of a slice, the rows of A that make a tile lie in the first cache while B
// passes, which stays in the second; the next slice of B and the next tile of C are asked for meanwhile.

// NOLINTBEGIN(misc-definitions-in-headers): one value in each object.
// A tile of kTileRows x kTileVectors vectors of C stays in registers while a slice of k runs.
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
constexpr int64_t kDepth = 128;
constexpr int kNarrowRows = 6;                // rows of A side by side where C has one vector of columns
constexpr int kFewRows = 14;                  // rows of A for which B is read once, row after row
constexpr int64_t kRowsTogether = 8;          // rows of B, then
constexpr int kHeld = kLanes == 16 ? 16 : 8;  // vectors of a row of C in registers while rows of B are added
constexpr int64_t kBits = 32;  // rows of B that stay in the first cache while rows of A pass, of which a bit
                               // each says whether it is needed
constexpr int64_t kPackedRows = (kTileRows + kLanes - 1) / kLanes * kLanes;
constexpr int64_t kTilesTogether =
    16384 / kDepth / kPackedRows;  // whose rows of A are packed together: 64 KB
// Whether B of floats is read where it is. Low tiles take it so often that it pays to pack it, but not where
// A is to be packed as well.
constexpr bool kInPlace = kTileRows > 8;
// NOLINTEND(misc-definitions-in-headers)

// The operands of a tile. A(i, p) is a[i * a_row + p * a_column].
struct Tile {
  int64_t k;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_row;
  int64_t b_ahead;  // from a row of B to the one to ask for
  float* c;
  int64_t c_row;
  bool add;
};

template <int Rows>
void multiply_tile(const Tile& tile) {
  const auto [k, a, a_row, a_column, b, b_row, b_ahead, c, c_row, add] = tile;
  Floats total[Rows][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) total[i][v] = add ? load(c + i * c_row + v * kLanes) : Floats{};
    prefetch_bytes(c + i * c_row + kTileColumns, kTileColumns * 4);
  }
  for (int64_t p = 0; p < k; ++p) {
    Floats row[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) row[v] = load(b + p * b_row + v * kLanes);
    prefetch_bytes(b + p * b_row + b_ahead, kTileColumns * 4);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const Floats scale = splat(a[i * a_row + p * a_column]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) total[i][v] = multiply_add(scale, row[v], total[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) store(c + i * c_row + v * kLanes, total[i][v]);
  }
}

using MultiplyTile = void (*)(const Tile&);

// Tiles of one row, and of 2, 4 ... kTileRows.
template <int... Pairs>
struct TileTable {
  MultiplyTile of_pairs[sizeof...(Pairs) + 1] = {multiply_tile<1>, multiply_tile<2 * Pairs>...};
};

// NOLINTBEGIN(misc-definitions-in-headers)
#if defined(__AVX512F__)
constexpr TileTable<1, 2, 3, 4, 5, 6, 7> kTiles;
#elif defined(__aarch64__)
constexpr TileTable<1, 2, 3, 4> kTiles;
#elif defined(__AVX2__)
constexpr TileTable<1, 2, 3> kTiles;
#else
constexpr TileTable<1, 2> kTiles;
#endif
// NOLINTEND(misc-definitions-in-headers)

inline void multiply_rows(const Tile& tile, int64_t rows) {
  const int64_t even = rows / 2 * 2;
  if (even > 0) kTiles.of_pairs[even / 2](tile);
  if (even == rows) return;
  Tile last = tile;
  last.a += even * tile.a_row;
  last.c += even * tile.c_row;
  kTiles.of_pairs[0](last);
}

// A slice of k.
struct Slice {
  int64_t begin, k;
  bool first, last;

  Slice(const Product& p, int64_t from)
      : begin(from), k(p.k - from < kDepth ? p.k - from : kDepth), first(from == 0), last(from + k == p.k) {}
};

// Some rows of A and of C, at most kTileRows, which is even. Tiles are equally high, so that no thin one is
// left at the end, and begin at even rows.
struct TileRows {
  int64_t begin, count;

  TileRows(int64_t m, int64_t i) : begin(start(m, i)), count(start(m, i + 1) - begin) {}
  bool want(const Product& p, int64_t column) const { return column < begin + count - 1 + p.diagonal; }
  static int64_t tiles(int64_t m) { return (m + kTileRows - 1) / kTileRows; }

 private:
  static int64_t start(int64_t m, int64_t i) {
    const int64_t pairs = (m + 1) / 2, end = 2 * (pairs * i / tiles(m));
    return end < m ? end : m;
  }
};

// Packs a slice's columns of some rows, where they follow one another: (k, kPackedRows). A vector may reach
// into the next column, never past the last one.
inline void pack_columns(const float* a, int64_t a_column, int64_t rows, int64_t k, float* packed) {
  const int64_t end = (k - 1) * a_column + rows;
  for (int64_t p = 0; p < k; ++p, packed += kPackedRows) {
    const int64_t at = p * a_column;
    if (at + kPackedRows <= end) {
      for (int64_t i = 0; i < kPackedRows; i += kLanes) store(packed + i, load(a + at + i));
    } else {
      for (int64_t i = 0; i < rows; ++i) packed[i] = a[at + i];
    }
  }
}

// The part of A that a tile takes in a slice: where it is, or packed where its columns lie apart.
inline Tile tile_of(const Product& p, const Slice& slice, const TileRows& rows, float* packed) {
  const float* a = p.a + rows.begin * p.a_row + slice.begin * p.a_column;
  Tile tile{};
  tile.k = slice.k;
  tile.c_row = p.c_row;
  tile.add = p.add || !slice.first;
  tile.a = a, tile.a_row = p.a_row, tile.a_column = p.a_column;
  if (p.a_row != 1 || p.a_column == 1) return tile;
  pack_columns(a, p.a_column, rows.count, slice.k, packed);
  tile.a = packed, tile.a_row = 1, tile.a_column = kPackedRows;
  return tile;
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

inline void pack_panel_any(const Rows& b, int64_t row, int64_t column, int64_t k, int64_t columns,
                           float* panel) {
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

// One tile at the right edge: columns beyond `columns` are computed in a buffer and dropped.
inline void multiply_edge(Tile tile, int64_t rows, int64_t columns, float* c) {
  alignas(64) float buffer[kTileRows * kTileColumns] = {};
  const int64_t c_row = tile.c_row;
  for (int64_t i = 0; tile.add && i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) buffer[i * kTileColumns + j] = c[i * c_row + j];
  }
  tile.c = buffer, tile.c_row = kTileColumns;
  multiply_rows(tile, rows);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * c_row + j] = buffer[i * kTileColumns + j];
  }
}

// What is called for every tile of C once it is complete: (rows, first column, columns). Refers to what it is
// made of, and is one type, so that products are compiled once.
class Finish {
 public:
  template <class Function>
  explicit Finish(const Function& function)
      : function_(&function), call_([](const void* f, const TileRows& rows, int64_t column, int64_t columns) {
          (*static_cast<const Function*>(f))(rows, column, columns);
        }) {}
  void operator()(const TileRows& rows, int64_t column, int64_t columns) const {
    call_(function_, rows, column, columns);
  }

 private:
  const void* function_;
  void (*call_)(const void*, const TileRows&, int64_t, int64_t);
};

// The first `columns` columns, whole tiles: B is read where it is.
inline void multiply_in_place(const Product& p, int64_t columns, const Finish& finish) {
  alignas(64) float packed[kDepth * kPackedRows];
  const auto* b = static_cast<const float*>(p.b.data);
  for (int64_t begin = 0; begin < p.k; begin += kDepth) {
    const Slice slice(p, begin);
    for (int64_t i = 0; i < TileRows::tiles(p.m); ++i) {
      const TileRows rows(p.m, i);
      Tile tile = tile_of(p, slice, rows, packed);
      tile.b_row = p.b.stride;
      tile.b_ahead = slice.last ? 0 : kDepth * p.b.stride;
      for (int64_t column = 0; column < columns && rows.want(p, column); column += kTileColumns) {
        tile.b = b + begin * p.b.stride + column;
        tile.c = p.c + rows.begin * p.c_row + column;
        multiply_rows(tile, rows.count);
        if (slice.last) finish(rows, column, kTileColumns);
      }
    }
  }
}

// The columns from `column` on: B is packed, as floats, one tile's columns of a slice at a time, and stays in
// the first cache while some tiles' rows of A pass, which are packed once for all columns.
inline void multiply_packed(const Product& p, int64_t column, const Finish& finish) {
  alignas(64) float packed[kTilesTogether][kDepth * kPackedRows], panel[kDepth * kTileColumns];
  const int64_t tiles = TileRows::tiles(p.m);
  for (int64_t first = 0; first < tiles && column < p.n; first += kTilesTogether) {
    const int64_t last = first + kTilesTogether < tiles ? first + kTilesTogether : tiles;
    for (int64_t begin = 0; begin < p.k; begin += kDepth) {
      const Slice slice(p, begin);
      Tile parts[kTilesTogether];
      for (int64_t i = first; i < last; ++i)
        parts[i - first] = tile_of(p, slice, TileRows(p.m, i), packed[i - first]);
      for (int64_t at = column; at < p.n && TileRows(p.m, last - 1).want(p, at); at += kTileColumns) {
        const int64_t columns = p.n - at < kTileColumns ? p.n - at : kTileColumns;
        pack_panel_any(p.b, begin, at, slice.k, columns, panel);
        for (int64_t i = first; i < last; ++i) {
          const TileRows rows(p.m, i);
          if (!rows.want(p, at)) continue;
          Tile& tile = parts[i - first];
          tile.b = panel, tile.b_row = kTileColumns;
          tile.c = p.c + rows.begin * p.c_row + at;
          if (columns == kTileColumns) {
            multiply_rows(tile, rows.count);
          } else {
            multiply_edge(tile, rows.count, columns, tile.c);
          }
          if (slice.last) finish(rows, at, columns);
        }
      }
    }
  }
}

// One vector of columns, as a chunk of few tokens has: every row of A passes once, a few of them side by
// side.
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

inline void multiply_narrow(const Product& p) {
  int64_t i = 0;
  for (; i + kNarrowRows <= p.m; i += kNarrowRows) multiply_narrow_rows<kNarrowRows>(p, i);
  for (; i < p.m; ++i) multiply_narrow_rows<1>(p, i);
}

// Few rows of A: B is read once, row after row, and C stays in cache.
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

inline void multiply_few_any(const Product& p) {
  switch (p.b.dtype) {
    case DType::bf16:
      return multiply_few(p, static_cast<const BFloat16*>(p.b.data));
    case DType::f16:
      return multiply_few(p, static_cast<const Float16*>(p.b.data));
    default:
      return multiply_few(p, static_cast<const float*>(p.b.data));
  }
}

inline void multiply_then(const Product& p, const Finish& finish) {
  if (p.m == 0 || p.n == 0) return;
  const bool narrow = p.n == kLanes && p.b.dtype == DType::f32;
  if (narrow || (p.m <= kFewRows && p.n % kLanes == 0)) {
    narrow ? multiply_narrow(p) : multiply_few_any(p);
    for (int64_t i = 0; i < TileRows::tiles(p.m); ++i) finish(TileRows(p.m, i), 0, p.n);
    return;
  }
  const int64_t in_place =
      p.b.dtype == DType::f32 && (kInPlace || p.a_column != 1) ? p.n / kTileColumns * kTileColumns : 0;
  if (in_place > 0) multiply_in_place(p, in_place, finish);
  multiply_packed(p, in_place, finish);
}

inline void multiply(const Product& p) {
  const auto nothing = [](const TileRows&, int64_t, int64_t) {};
  multiply_then(p, Finish(nothing));
}

// ---- a product with an A of which few elements are not zero ----

// Bit j of bits[i]: whether A(row + i, from + j) is not zero, for up to kLanes rows that lie side by side.
inline void nonzero_bits_of_columns(const Product& p, int64_t row, int64_t from, int64_t count,
                                    uint32_t* bits) {
  Words lanes = {};
  for (int64_t j = 0; j < count; ++j) {
    const Floats value = load_some(p.a + (from + j) * p.a_column + row, p.m - row);
    lanes |= (Words)(value != Floats{}) & (uint32_t{1} << j);
  }
  __builtin_memcpy(bits, &lanes, sizeof lanes);
}

// The same for one row whose elements follow one another.
inline uint32_t nonzero_bits_of_row(const float* a, int64_t count) {
  uint32_t bits = 0;
  for (int64_t j = 0; j < count; j += kLanes) bits |= nonzero_lanes(load_some(a + j, count - j)) << j;
  return bits;
}

// Adds rows of B to some columns of a row of C, which stay in registers. a, b: where the bits begin.
template <int Vectors>
void add_columns(const Product& p, const float* a, const float* b, uint32_t bits, float* c) {
  Floats total[Vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) total[v] = load(c + v * kLanes);
  for (; bits != 0; bits &= bits - 1) {
    const int64_t j = __builtin_ctz(bits);
    const Floats scale = splat(a[j * p.a_column]);
    const float* row = b + j * p.b.stride;
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) total[v] = multiply_add(scale, load(row + v * kLanes), total[v]);
  }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) store(c + v * kLanes, total[v]);
}

template <int Vectors>
void add_rows_of(const Product& p, int64_t row, int64_t from, uint32_t bits, int64_t column = 0) {
  if (bits == 0) return;
  const float* a = p.a + row * p.a_row + from * p.a_column;
  const float* b = static_cast<const float*>(p.b.data) + from * p.b.stride;
  for (; column + Vectors * kLanes <= p.n; column += Vectors * kLanes)
    add_columns<Vectors>(p, a, b + column, bits, p.c + row * p.c_row + column);
  if constexpr (Vectors > 1) add_rows_of<Vectors / 2>(p, row, from, bits, column);
}

inline void add_sparse(const Product& p) {
  for (int64_t from = 0; from < p.k; from += kBits) {
    const int64_t count = p.k - from < kBits ? p.k - from : kBits;
    if (p.a_column == 1) {
      for (int64_t i = 0; i < p.m; ++i)
        add_rows_of<kHeld>(p, i, from, nonzero_bits_of_row(p.a + i * p.a_row + from, count));
      continue;
    }
    for (int64_t row = 0; row < p.m; row += kLanes) {
      uint32_t bits[kLanes];
      nonzero_bits_of_columns(p, row, from, count, bits);
      for (int64_t i = row; i < p.m && i < row + kLanes; ++i) add_rows_of<kHeld>(p, i, from, bits[i - row]);
    }
  }
}

// ---- what becomes of tiles ----

// Sine and cosine of a vector of tokens, from place `at` of the product on.
inline SineCosine turn(const Phases& phases, float freq, int64_t at, int64_t column) {
  if (phases.angles) return sine_cosine(load(phases.angles + at));
  return sine_cosine_at(load(phases.positions + column), splat(freq));
}

inline Encoded encode(const Product& p, const Phases& phases, float* r) {
  Encoded counts{};
  const auto rotate = [&](const TileRows& rows, int64_t first, int64_t columns) {
    Ints active = {}, pairs = {};
    for (int64_t i = rows.begin; i < rows.begin + rows.count; i += 2) {
      const float even_freq = phases.freqs[i], odd_freq = phases.freqs[i + 1];
      for (int64_t column = first; column < first + columns; column += kLanes) {
        const int64_t even = i * p.c_row + column, odd = even + p.c_row;
        const SineCosine even_turn = turn(phases, even_freq, even, column);
        const SineCosine odd_turn = even_freq == odd_freq ? even_turn : turn(phases, odd_freq, odd, column);
        const Floats a = relu(load(p.c + even)), b = relu(load(p.c + odd));
        const Ints some = a != Floats{}, others = b != Floats{};
        active -= some + others;
        pairs -= some | others;
        store(p.c + even, a);
        store(p.c + odd, b);
        store(r + even, a * even_turn.cosine - b * even_turn.sine);
        store(r + odd, b * odd_turn.cosine + a * odd_turn.sine);
      }
    }
    counts.n += sum(active);
    counts.pairs += sum(pairs);
  };
  multiply_then(p, Finish(rotate));
  return counts;
}

inline Gated gate(const Product& p, const float* n, int64_t n_stride) {
  Gated counts{};
  const auto multiply_by_n = [&](const TileRows& rows, int64_t column, int64_t columns) {
    Ints positive = {}, active = {};
    for (int64_t i = rows.begin; i < rows.begin + rows.count; ++i) {
      float* v = p.c + i * p.c_row + column;
      const float* n_row = n + i * n_stride + column;
      prefetch_bytes(n_row + columns, columns * 4);
      for (int64_t t = 0; t < columns; t += kLanes) {
        const Floats value = relu(load(v + t)), g = value * load(n_row + t);
        positive -= value > Floats{};
        active -= g != Floats{};
        store(v + t, g);
      }
    }
    counts.v += sum(positive);
    counts.g += sum(active);
  };
  multiply_then(p, Finish(multiply_by_n));
  return counts;
}

}  // namespace
}  // namespace bdh::cpu
