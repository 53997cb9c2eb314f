// The limits as families, and the bounds that follow.
#include "bench/cuda/limits.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bench/cuda/plain.h"
#include "bench/source.h"

namespace bdh::bench {

namespace {

using cuda::check;
using cuda::DeviceMemory;

constexpr const char *kMemory = "memory", *kCache = "L2 cache", *kProduct = "product";

double as_number(int64_t value) { return static_cast<double>(value); }

Case limit_case(const std::string& name, const std::string& shape, const std::string& dtype = "") {
  return {.kind = Kind::limit, .name = name, .shape = shape, .dtype = dtype};
}

class Measuring {
 public:
  Measuring(const Timer& timer, const cuda::Stream& stream, Blas& blas, const LimitSizes& sizes)
      : timer_(timer), stream_(stream), blas_(blas), sizes_(sizes) {}

  std::vector<Result> run() {
    memory();
    add({.of = limit_case("empty kernel", "one after the other in a graph"),
         .variants = {{"", [&](int) { do_nothing(stream_.get()); }}}});
    products(DType::bf16, sizes_.square);
    if (sizes_.halves) products(DType::f16, sizes_.square);
    products(DType::f32, sizes_.square_float);
    return std::move(results_);
  }

 private:
  void add(const Family& family) {
    for (Result& result : timer_.measure(family)) results_.push_back(std::move(result));
  }

  void memory() {
    const DeviceMemory from(static_cast<size_t>(sizes_.memory), "the memory limit"),
        to(static_cast<size_t>(sizes_.memory), "the memory limit"), sink(16, "the memory limit");
    fill_random(from.as<void>(), DType::f32, sizes_.memory / 4, 1, stream_.get());
    add({.of = limit_case(kMemory, "copied, bytes read and written"),
         .work = {.bytes = 2 * as_number(sizes_.memory)},
         .variants = {{"", [&](int) {
                         check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), from.bytes(),
                                               cudaMemcpyDeviceToDevice, stream_.get()),
                               "copying");
                       }}}});
    add({.of = limit_case(kMemory, "read"),
         .work = {.bytes = as_number(sizes_.memory)},
         .variants = {{"", [&](int) {
                         read_stream(from.as<void>(), sizes_.memory, 1, sink.as<void>(), stream_.get());
                       }}}});
    add({.of = limit_case(kCache, "read"),
         .work = {.bytes = as_number(sizes_.cache * sizes_.cache_rounds)},
         .variants = {{"", [&](int) {
                         read_stream(from.as<void>(), sizes_.cache, sizes_.cache_rounds, sink.as<void>(),
                                     stream_.get());
                       }}}});
  }

  // A large square, and E, the decoder and S as a chunk multiplies them (all heads together).
  void products(DType dtype, int64_t square) {
    const auto [rows, neurons, width] = std::tuple(sizes_.rows, sizes_.neurons, sizes_.width);
    product({square, square, square}, dtype, false);
    product({rows, neurons, width}, dtype, true);
    product({rows, width, neurons}, dtype, false);
  }

  struct Shape3 {
    int64_t m, n, k;
  };
  // b_rows: B is stored as (n, k), as E is.
  void product(const Shape3& s, DType dtype, bool b_rows) {
    const auto memory = [&](int64_t rows, int64_t columns) {
      DeviceMemory made(static_cast<size_t>(rows * columns) * size_of(dtype), "the product limit");
      fill_random(made.as<void>(), dtype, rows * columns, 7, stream_.get());
      return made;
    };
    const DeviceMemory a = memory(s.m, s.k), b = memory(s.k, s.n), c = memory(s.m, s.n);
    const MatrixProduct p{.m = s.m,
                          .n = s.n,
                          .k = s.k,
                          .a = {a.as<void>(), s.k},
                          .b = {b.as<void>(), b_rows ? s.k : s.n, b_rows},
                          .c = {c.as<void>(), s.n},
                          .in = dtype,
                          .out = dtype};
    add({.of = limit_case(kProduct, concat(s.m, " x ", s.n, " x ", s.k), option_name(dtype)),
         .work = {.bytes = as_number(s.m * s.k + s.k * s.n + s.m * s.n) *
                           as_number(static_cast<int64_t>(size_of(dtype))),
                  .flops = 2 * as_number(s.m) * as_number(s.n) * as_number(s.k)},
         .variants = {{"", [&](int) { blas_.multiply(p, stream_.get()); }}}});
  }

  const Timer& timer_;
  const cuda::Stream& stream_;
  Blas& blas_;
  const LimitSizes& sizes_;
  std::vector<Result> results_;
};

// The best rate of the limits with that name and, unless empty, that dtype.
double best_rate(const std::vector<Result>& results, const std::string& name, const std::string& dtype) {
  double best = 0;
  for (const Result& r : results) {
    if (r.of.kind != Kind::limit || r.of.name != name || r.median() <= 0) continue;
    if (!dtype.empty() && r.of.dtype != dtype) continue;
    best = std::max(best, (dtype.empty() ? r.work.bytes : r.work.flops) / r.median());
  }
  return best;
}

std::string product_name(const std::string& dtype) { return concat(kProduct, " ", dtype); }

}  // namespace

std::vector<Result> measure_limits(const Timer& timer, const cuda::Stream& stream, Blas& blas,
                                   const LimitSizes& sizes) {
  return Measuring(timer, stream, blas, sizes).run();
}

GpuLimits::GpuLimits(const std::vector<Result>& results) {
  for (const char* name : {kMemory, kCache}) roofs_.push_back({name, false, best_rate(results, name, "")});
  for (const char* dtype : {"bf16", "f16", "f32"})
    roofs_.push_back({product_name(dtype), true, best_rate(results, kProduct, dtype)});
  std::erase_if(roofs_, [](const Roof& roof) { return roof.rate == 0; });
}

double GpuLimits::rate(const std::string& name) const {
  const auto found =
      std::find_if(roofs_.begin(), roofs_.end(), [&](const Roof& r) { return r.name == name; });
  return found == roofs_.end() ? 0 : found->rate;
}

Bound GpuLimits::bound(const Work& work, const std::string& dtype) const {
  const std::string product = product_name(dtype);
  Bound longest;
  const auto consider = [&](double amount, const std::string& by) {
    const double most = rate(by), seconds = most > 0 ? amount / most : 0;
    if (seconds > longest.seconds) longest = {seconds, by};
  };
  consider(work.bytes, kMemory);
  consider(work.bytes + work.cached, kCache);
  consider(work.flops, product);
  return longest;
}

}  // namespace bdh::bench
