// Every CPU kernel of every instruction set against plain loops in double precision, on odd sizes and
// poisoned outputs.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "bdh/base/error.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/packed.h"

using namespace bdh;
using namespace bdh::cpu;

namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

struct Random {
  std::mt19937 bits{7};
  float operator()() { return std::normal_distribution<float>(0.0f, 1.0f)(bits); }
  std::vector<float> floats(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = (*this)();
    return values;
  }
};

// The same numbers stored as dtype, and what they read back as.
struct Stored {
  std::vector<std::byte> bytes;
  std::vector<float> values;

  Stored(const std::vector<float>& from, DType dtype)
      : bytes(from.size() * size_of(dtype)), values(from.size()) {
    convert(DType::f32, from.data(), dtype, bytes.data(), from.size());
    convert(dtype, bytes.data(), DType::f32, values.data(), from.size());
  }
};

template <class Body>
void for_each_isa(Body body) {
  for (const std::string& isa : available_isas()) {
    CAPTURE(isa);
    body(kernels_for(isa));
  }
}

constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16};

}  // namespace

TEST_CASE("dot_rows_by_all gives each x the bits that it has alone") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (DType dtype : kDTypes) {
      for (int64_t width : {16, 48, 256, 4112}) {
        for (int64_t count : {1, 4, 30, 32}) {
          for (int64_t xs : {1, 2, 3, 4, 9}) {
            const Stored rows(random.floats(count * width), dtype);
            const std::vector<float> x = random.floats(xs * width);
            const Rows view{rows.bytes.data(), dtype, width};
            const int64_t stride = count + 3;
            std::vector<float> dots(static_cast<size_t>(xs * stride), -1), alone(dots);
            for (int64_t k = 0; k < xs; ++k)
              kernels.dot_rows(view, nullptr, count, width, x.data() + k * width, alone.data() + k * stride);
            kernels.dot_rows_by_all(view, count, width, x.data(), xs, dots.data(), stride);
            CHECK(dots == alone);
          }
        }
      }
    }
  });
}

TEST_CASE("dot_pairs gives each pair the bits of dot_rows") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (DType dtype : kDTypes) {
      for (int64_t width : {16, 48, 256}) {
        for (int64_t xs : {2, 3, 16}) {
          constexpr int64_t kRows = 37;
          const Stored rows(random.floats(kRows * width), dtype);
          const int64_t x_stride = width + 16, stride = kRows + 3;
          const std::vector<float> x = random.floats(xs * x_stride);
          const Rows view{rows.bytes.data(), dtype, width};
          for (int every : {1, 2, 5, 1000}) {  // of the pairs that there are one in so many is asked for
            std::vector<DotPair> pairs;
            std::vector<float> dots(static_cast<size_t>(xs * stride), -1), alone(dots);
            for (int32_t row = 0, seen = 0; row < kRows; ++row) {
              for (int64_t k = 0; k < xs; ++k) {
                if (seen++ % every != every - 1) continue;
                pairs.push_back({static_cast<int16_t>(row), static_cast<int16_t>(k)});
                kernels.dot_rows(view, &row, 1, width, x.data() + k * x_stride,
                                 alone.data() + k * stride + row);
              }
            }
            kernels.dot_pairs(view, pairs.data(), std::ssize(pairs), width, x.data(), x_stride, xs,
                              dots.data(), stride);
            CHECK(dots == alone);
          }
        }
      }
    }
  });
}

TEST_CASE("dot_rows and accumulate_rows, dense and gathered") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (DType dtype : kDTypes) {
      for (int64_t width : {16, 48, 256, 272}) {
        for (int64_t count : {0, 1, 3, 4, 9, 37}) {
          const Stored rows(random.floats(40 * width), dtype);
          const std::vector<float> x = random.floats(width), scale = random.floats(count);
          std::vector<int32_t> index;
          for (int64_t i = 0; i < count; ++i) index.push_back(static_cast<int32_t>((i * 7 + 3) % 40));
          for (bool gathered : {false, true}) {
            CAPTURE(width);
            CAPTURE(count);
            CAPTURE(gathered);
            const auto row = [&](int64_t i) {
              return rows.values.data() + (gathered ? index[i] : i) * width;
            };
            const int32_t* list = gathered ? index.data() : nullptr;
            const Rows view{rows.bytes.data(), dtype, width};

            std::vector<float> dots(static_cast<size_t>(count) + 1, kPoison);
            kernels.dot_rows(view, list, count, width, x.data(), dots.data());
            for (int64_t i = 0; i < count; ++i) {
              double expected = 0;
              for (int64_t d = 0; d < width; ++d) expected += double{row(i)[d]} * x[d];
              CHECK(dots[i] == doctest::Approx(expected).epsilon(1e-4).scale(10));
            }
            CHECK(std::isnan(dots[count]));

            std::vector<float> sums = x;
            kernels.accumulate_rows(view, list, scale.data(), count, width, sums.data());
            for (int64_t d = 0; d < width; ++d) {
              double expected = x[d];
              for (int64_t i = 0; i < count; ++i) expected += double{row(i)[d]} * scale[i];
              CHECK(sums[d] == doctest::Approx(expected).epsilon(1e-4).scale(10));
            }
          }
        }
      }
    }
  });
}

TEST_CASE("multiply, all strides and dtypes, sizes that do not fit the tiles") {
  Random random;
  struct Size {
    int64_t m, n, k;
  };
  for_each_isa([&](const Kernels& kernels) {
    for (const Size size :
         {Size{1, 1, 1}, Size{3, 17, 5}, Size{14, 32, 128}, Size{15, 33, 129}, Size{64, 96, 300},
          Size{29, 64, 16}, Size{128, 16, 1}, Size{7, 16, 40}, Size{8, 48, 37}, Size{14, 256, 128}}) {
      for (DType dtype : kDTypes) {
        for (bool transposed : {false, true}) {
          for (bool add : {false, true}) {
            const int64_t m = size.m, n = size.n, k = size.k;
            const std::vector<float> a = random.floats(m * k), before = random.floats(m * (n + 3));
            const Stored b(random.floats(k * (n + 5)), dtype);
            std::vector<float> c = before;
            const int64_t a_row = transposed ? 1 : k, a_column = transposed ? m : 1;
            kernels.multiply(
                {m, n, k, a.data(), a_row, a_column, {b.bytes.data(), dtype, n + 5}, c.data(), n + 3, add});
            double worst = 0;
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t j = 0; j < n + 3; ++j) {
                double expected = before[i * (n + 3) + j];
                if (j < n && !add) expected = 0;
                for (int64_t p = 0; j < n && p < k; ++p) {
                  expected += double{a[i * a_row + p * a_column]} * b.values[p * (n + 5) + j];
                }
                worst = std::max(worst, std::fabs(expected - double{c[i * (n + 3) + j]}));
              }
            }
            CAPTURE(m);
            CAPTURE(n);
            CAPTURE(k);
            CHECK(worst < 1e-4);
          }
        }
      }
    }
  });
}

// Elements of A that are zero: all but one in `every`.
std::vector<float> mostly_zeros(Random& random, int64_t count, int64_t every) {
  std::vector<float> a = random.floats(count);
  for (int64_t i = 0; i < count; ++i) {
    if (i % every != 0) a[i] = 0.0f;
  }
  return a;
}

TEST_CASE("products that skip zeros give the bits of those that do not") {
  Random random;
  struct Size {
    int64_t m, n, k;
  };
  for_each_isa([&](const Kernels& kernels) {
    for (const Size size :
         {Size{1, 16, 1}, Size{15, 32, 33}, Size{64, 272, 100}, Size{33, 48, 31}, Size{70, 64, 128}}) {
      for (const bool by_columns : {false, true}) {
        for (const int64_t every : {1, 3, 1000}) {
          const int64_t m = size.m, n = size.n, k = size.k;
          const std::vector<float> a = mostly_zeros(random, m * k, every), b = random.floats(k * n),
                                   before = random.floats(m * n);
          std::vector<float> dense = before, sparse = before;
          const int64_t a_row = by_columns ? 1 : k, a_column = by_columns ? m : 1;
          const Rows rows{b.data(), DType::f32, n};
          kernels.multiply({m, n, k, a.data(), a_row, a_column, rows, dense.data(), n, true});
          kernels.add_sparse({m, n, k, a.data(), a_row, a_column, rows, sparse.data(), n, true});
          CAPTURE(m);
          CHECK(sparse == dense);
        }
      }
    }
  });
}

TEST_CASE("below its diagonal a product is what it is without one") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (const int64_t columns : {64, 71, 200}) {
      constexpr int64_t kRows = 64, kDepth = 150;
      const int64_t diagonal = columns - kRows;
      const std::vector<float> a = random.floats(kRows * kDepth), b = random.floats(kDepth * columns);
      std::vector<float> all(kRows * columns, kPoison), half = all;
      const Rows rows{b.data(), DType::f32, columns};
      kernels.multiply({kRows, columns, kDepth, a.data(), 1, kRows, rows, all.data(), columns, false});
      kernels.multiply(
          {kRows, columns, kDepth, a.data(), 1, kRows, rows, half.data(), columns, false, diagonal});
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t j = 0; j < i + diagonal; ++j) REQUIRE(half[i * columns + j] == all[i * columns + j]);
      }
      if (columns == 200) CHECK(std::isnan(half[199]));
    }
  });
}

TEST_CASE("rotation rounds the phase as float32 and is exact at every position") {
  Random random;
  constexpr int64_t kNeurons = 32;
  std::vector<float> freqs(kNeurons);
  for (int64_t i = 0; i < kNeurons; ++i) {
    freqs[i] = static_cast<float>(1.0 / std::pow(65536.0, static_cast<double>(i / 2 * 2) / kNeurons) /
                                  6.283185307179586);
  }
  freqs[9] = 0.123f;  // a pair of two frequencies is rotated as it stands
  for_each_isa([&](const Kernels& kernels) {
    for (float position : {0.0f, 1.0f, 7.0f, 4095.0f, 99999.0f, 16777215.0f}) {
      CAPTURE(position);
      const std::vector<float> raw = random.floats(kNeurons);
      std::vector<float> n = raw, r(kNeurons, kPoison);
      kernels.rotate(n.data(), freqs.data(), kNeurons, position, r.data());

      std::vector<float> chunk_n(kNeurons * 16), chunk_r(kNeurons * 16, kPoison), positions(16, position);
      const std::vector<float> one(16, 1.0f);
      const Product product{kNeurons,       16, 1,    raw.data(), 1, 1, {one.data(), DType::f32, 16},
                            chunk_n.data(), 16, false};
      kernels.encode(product, {freqs.data(), positions.data(), nullptr}, chunk_r.data());

      for (int64_t i = 0; i < kNeurons; ++i) {
        const float phase = position * freqs[i];
        const double angle =
            static_cast<double>(static_cast<float>((phase - std::floor(phase)) * 6.28318530718f));
        const float own = std::max(raw[i], 0.0f), other = std::max(raw[i ^ 1], 0.0f);
        const double expected = own * std::cos(angle) + (i % 2 == 0 ? -other : other) * std::sin(angle);
        CHECK(n[i] == own);
        CHECK(std::fabs(r[i] - expected) < 5e-7);
        CHECK(std::fabs(chunk_r[i * 16 + 5] - expected) < 5e-7);
      }
    }
  });
}

TEST_CASE("sine and cosine of every kind of phase") {
  for_each_isa([&](const Kernels& kernels) {
    for (int step = 0; step < 4096; ++step) {
      const float fraction = static_cast<float>(step) / 4096.0f;
      std::vector<float> n(16, 0.0f), r(16), freqs(16, fraction);
      n[0] = 1.0f;
      kernels.rotate(n.data(), freqs.data(), 16, 1.0f, r.data());
      const double angle = static_cast<double>(fraction * 6.28318530718f);
      REQUIRE(std::fabs(r[0] - std::cos(angle)) < 2e-7);
      REQUIRE(std::fabs(r[1] - std::sin(angle)) < 2e-7);
    }
  });
}

// What encode and gate should do with a product, element by element, against the product as multiply makes
// it.
TEST_CASE("encode and gate finish what multiply makes, and count") {
  Random random;
  struct Size {
    int64_t neurons, tokens, width;
  };
  for_each_isa([&](const Kernels& kernels) {
    for (const Size size :
         {Size{2, 16, 5}, Size{30, 48, 64}, Size{128, 256, 300}, Size{16, 80, 129}, Size{46, 32, 1}}) {
      const int64_t neurons = size.neurons, tokens = size.tokens, width = size.width;
      const int64_t all = neurons * tokens;
      const std::vector<float> rows = random.floats(neurons * width), x = random.floats(width * tokens);
      std::vector<float> freqs(neurons), positions(tokens), angles(all), plain(all), n(all), r(all),
          turned(all), v(all);
      for (int64_t i = 0; i < neurons; ++i)
        freqs[i] = 0.1f / static_cast<float>(1 + i / 2) + (i == 5 ? 0.01f : 0.0f);
      for (int64_t t = 0; t < tokens; ++t) positions[t] = static_cast<float>(100 + 3 * t);
      for (int64_t at = 0; at < all; ++at) {
        const float phase = positions[at % tokens] * freqs[at / tokens];
        angles[at] = (phase - std::floor(phase)) * 6.28318530718f;
      }
      const auto product = [&](float* to) {
        return Product{neurons, tokens, width, rows.data(), width, 1, {x.data(), DType::f32, tokens},
                       to,      tokens, false};
      };
      kernels.multiply(product(plain.data()));
      const Encoded encoded =
          kernels.encode(product(n.data()), {freqs.data(), positions.data(), nullptr}, r.data());
      kernels.encode(product(n.data()), {freqs.data(), nullptr, angles.data()}, turned.data());
      const Gated gated = kernels.gate(product(v.data()), n.data(), tokens);
      Encoded expected{};
      Gated expected_gate{};
      double worst = 0;
      for (int64_t at = 0; at < all; ++at) {
        const int64_t i = at / tokens, other = at + (i % 2 == 0 ? tokens : -tokens);
        const float own = std::max(plain[at], 0.0f), partner = std::max(plain[other], 0.0f);
        REQUIRE(n[at] == own);
        REQUIRE(v[at] == own * own);
        const double angle = angles[at];
        worst = std::max(worst, std::fabs(own * std::cos(angle) +
                                          (i % 2 == 0 ? -1 : 1) * partner * std::sin(angle) - r[at]));
        expected.n += own != 0;
        if (i % 2 == 0) expected.pairs += own != 0 || partner != 0;
        expected_gate.v += plain[at] > 0;
        expected_gate.g += own * own != 0;
      }
      CHECK(worst < 1e-5);
      CHECK(r == turned);
      CHECK(encoded.n == expected.n);
      CHECK(encoded.pairs == expected.pairs);
      CHECK(gated.v == expected_gate.v);
      CHECK(gated.g == expected_gate.g);
      CHECK(kernels.count_active(n.data(), tokens, neurons, tokens) == expected.n);
    }
  });
}

TEST_CASE("norm and widen") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (int64_t width : {1, 7, 16, 20, 64}) {
      std::vector<float> x = random.floats(padded(width)), out(padded(width), kPoison);
      std::fill(x.begin() + width, x.end(), 0.0f);
      double mean = 0, variance = 0;
      for (int64_t d = 0; d < width; ++d) mean += x[d] / static_cast<double>(width);
      for (int64_t d = 0; d < width; ++d)
        variance += (x[d] - mean) * (x[d] - mean) / static_cast<double>(width);
      kernels.norm(x.data(), width, padded(width), out.data());
      for (int64_t d = 0; d < padded(width); ++d) {
        const double expected = d < width ? (x[d] - mean) / std::sqrt(variance + 1e-5) : 0.0;
        CHECK(std::fabs(out[d] - expected) < 2e-6);
      }
    }

    for (DType dtype : kDTypes) {
      const Stored stored(random.floats(64), dtype);
      std::vector<float> wide(64, kPoison);
      kernels.widen(stored.bytes.data(), dtype, 64, wide.data());
      CHECK(wide == stored.values);
    }
  });
}

namespace {

// Pending tokens in slots far apart, oldest first, the ring's end among them.
struct Flush {
  static constexpr int64_t kSlots = 24, kSlotStride = 48;
  int64_t neurons, width;
  std::vector<float> r, x, worth;
  std::vector<int32_t> slots;
  float left;

  Flush(Random& random, int64_t rows, int64_t columns, int64_t tokens, float s_left)
      : neurons(rows),
        width(columns),
        r(random.floats(kSlots * kSlotStride)),
        x(random.floats(kSlots * columns)),
        worth(random.floats(tokens)),
        left(s_left) {
    for (float& value : r) value = std::max(value, 0.0f);
    for (int64_t t = 0; t < tokens; ++t) slots.push_back(static_cast<int32_t>((t + 17) % kSlots));
  }

  PendingTokens tokens() const {
    return {std::ssize(slots), slots.data(), r.data(), x.data(), kSlotStride, width, worth.data(), left};
  }
  double expected(const std::vector<float>& s, int64_t i, int64_t d) const {
    const float old = left == 1.0f ? s[i * width + d] : s[i * width + d] * left;
    double sum = old;
    for (size_t t = 0; t < slots.size(); ++t)
      sum += static_cast<double>(worth[t]) * r[slots[t] * kSlotStride + i] * x[slots[t] * width + d];
    return sum;
  }
};

void check_flush(const Kernels& kernels, DType dtype, const Flush& flush, const std::vector<float>& s) {
  const Stored before(s, dtype);
  Stored after = before;
  kernels.flush(after.bytes.data(), dtype, flush.neurons, flush.width, flush.tokens());
  convert(dtype, after.bytes.data(), DType::f32, after.values.data(), s.size());
  for (int64_t i = 0; i < flush.neurons; ++i) {
    for (int64_t d = 0; d < flush.width; ++d) {
      CHECK(after.values[i * flush.width + d] ==
            doctest::Approx(flush.expected(before.values, i, d)).epsilon(dtype == DType::f32 ? 1e-5 : 4e-3));
    }
  }
}

}  // namespace

TEST_CASE("a flush adds pending tokens to rows of S, weighed, and lets S decay") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const int64_t width : {16, 80, 272}) {
        for (const int64_t neurons : {1, 6, 16, 37}) {
          for (const float left : {1.0f, 0.7f}) {
            for (const int64_t tokens : {1, 16}) {
              const Flush flush(random, neurons, width, tokens, left);
              check_flush(kernels, dtype, flush, random.floats(neurons * width));
            }
          }
        }
      }
    }
  });
}

TEST_CASE("what a flush lets decay is nothing below the smallest number, and bfloat16 is rounded once") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (const float left : {1.0f, 0.7f}) {
      Flush flush(random, 19, 272, 16, left);
      for (const int32_t slot : flush.slots) flush.r[slot * Flush::kSlotStride] = 0.0f;
      std::vector<float> s = random.floats(19 * 272);
      s[0] = 1.2f * kSmallest;
      s[1] = 3.0f * kSmallest;
      const Stored before(s, DType::bf16);
      std::vector<float> rows = before.values;
      kernels.flush(rows.data(), DType::f32, 19, 272, flush.tokens());
      CHECK(rows[0] == (left == 1.0f ? before.values[0] : 0.0f));
      CHECK(rows[1] == before.values[1] * left);

      std::vector<std::byte> rounded = before.bytes;
      kernels.flush(rounded.data(), DType::bf16, 19, 272, flush.tokens());
      CHECK(rounded == Stored(rows, DType::bf16).bytes);
    }
  });
}

TEST_CASE("a flush leaves rows in which no token is active as they are, and those that follow") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    Flush flush(random, 20, 32, 3, 1.0f);
    for (const int32_t slot : flush.slots) flush.r[slot * Flush::kSlotStride + 5] = 0.0f;
    const std::vector<float> before = random.floats(21 * 32);
    std::vector<float> after = before;
    kernels.flush(after.data(), DType::f32, 20, 32, flush.tokens());
    const auto same = [&](int64_t row) {
      return std::equal(after.begin() + row * 32, after.begin() + (row + 1) * 32, before.begin() + row * 32);
    };
    CHECK(same(5));
    CHECK(same(20));
    CHECK(!same(4));
  });
}

TEST_CASE("floats round to the nearest bfloat16, ties to even, NaN staying one") {
  Random random;
  std::vector<float> values = random.floats(1000);
  for (uint32_t bits = 0; bits < 0x10000;
       ++bits) {  // every bfloat16, and what lies around half way to the next
    for (const uint32_t lower : {0x0000u, 0x7fffu, 0x8000u, 0x8001u})
      values.push_back(std::bit_cast<float>(bits << 16 | lower));
  }
  values.resize(padded(static_cast<int64_t>(values.size())));
  for_each_isa([&](const Kernels& kernels) {
    std::vector<uint16_t> rounded(values.size());
    kernels.narrow(values.data(), static_cast<int64_t>(values.size()), rounded.data());
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) {
        REQUIRE(std::isnan(bf16_to_f32(rounded[i])));
      } else {
        REQUIRE(rounded[i] == f32_to_bf16(values[i]));
      }
    }
  });
}

TEST_CASE("compact keeps what is not zero, in order, and where it stood") {
  Random random;
  for_each_isa([&](const Kernels& kernels) {
    for (const int64_t count : {0, 2, 14, 16, 30, 500, 512}) {
      std::vector<float> values = random.floats(padded(count));
      for (size_t i = 0; i < values.size(); ++i) {
        if (i % 3 == 1) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
      }
      if (count > 0) values[0] = std::numeric_limits<float>::quiet_NaN();
      std::vector<int32_t> places, named, names(values.size()), index(values.size());
      for (int32_t i = 0; i < count; ++i) {
        names[i] = 7 * i;
        if (values[i] == 0.0f) continue;
        places.push_back(i);
        named.push_back(names[i]);
      }
      const auto active = std::ssize(places);
      std::vector<float> kept(values.size());
      REQUIRE(kernels.compact(values.data(), nullptr, count, kept.data(), index.data()) == active);
      CHECK(std::vector<int32_t>(index.begin(), index.begin() + active) == places);
      for (int64_t i = 1; i < active; ++i) CHECK(kept[i] == values[places[i]]);
      REQUIRE(kernels.compact(values.data(), names.data(), count, values.data(), names.data()) == active);
      CHECK(std::vector<int32_t>(names.begin(), names.begin() + active) == named);
      for (int64_t i = 1; i < active; ++i) CHECK(values[i] == kept[i]);
    }
  });
}

TEST_CASE("every half widens exactly, denormals and infinities too") {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  for_each_isa([&](const Kernels& kernels) {
    std::vector<float> wide(halves.size(), kPoison);
    for (DType dtype : {DType::f16, DType::bf16}) {
      kernels.widen(halves.data(), dtype, static_cast<int64_t>(halves.size()), wide.data());
      for (size_t i = 0; i < halves.size(); ++i) {
        const float expected = dtype == DType::f16 ? f16_to_f32(halves[i]) : bf16_to_f32(halves[i]);
        if (std::isnan(expected)) {
          REQUIRE(std::isnan(wide[i]));
        } else {
          REQUIRE(wide[i] == expected);
        }
      }
    }
  });
}

TEST_CASE("an unknown instruction set is an error that names those there are") {
  CHECK_THROWS_WITH_AS(kernels_for("sse9"), doctest::Contains(available_isas().back().c_str()), Error);
}
