// The read stream and sgemm, as cases, and the bounds that follow from them.
#include "bench/cpu/limits.h"

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "bdh/base/error.h"
#include "bdh/base/threads.h"

namespace bdh::bench {

namespace {

constexpr const char* kRead = "read stream";
constexpr const char* kSgemm = "sgemm";

using Line = uint64_t __attribute__((vector_size(64)));

// Adding integers costs nothing beside loading them, and no order of sums forbids wide vectors.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t
sum_lines(const std::byte* data, int64_t bytes) {
  const auto* line = reinterpret_cast<const Line*>(data);
  const Line* end = line + bytes / static_cast<int64_t>(sizeof(Line));
  Line a{}, b{}, c{}, d{};
  for (; line + 4 <= end; line += 4) {
    a += line[0];
    b += line[1];
    c += line[2];
    d += line[3];
  }
  a += b + c + d;
  return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

// How a level is read: threads that each go over a piece of their own, `rounds` times, or over all pieces
// together.
struct Stream {
  Level level;
  int64_t piece;   // bytes
  int64_t pieces;  // in all
  bool own;        // each thread has its own piece
};

std::vector<Stream> streams(const Machine& machine) {
  constexpr int64_t kWhole = 4096, kPiece = 1 << 20;
  const auto half = [](double bytes) { return static_cast<int64_t>(bytes / 2) / kWhole * kWhole; };
  std::vector<Stream> all;
  if (machine.l1 > 0) all.push_back({Level::l1, half(machine.l1), machine.cores, true});
  if (machine.l2 > 0) all.push_back({Level::l2, half(machine.l2), machine.cores, true});
  if (machine.l3 > 0) all.push_back({Level::l3, kPiece / 4, half(machine.l3) / (kPiece / 4), false});
  all.push_back({Level::memory, kPiece, large_block().bytes / kPiece, false});
  return all;
}

Work read_own(benchmark::State& state, const Stream& stream, int threads) {
  constexpr int64_t kRounds = 64;
  ThreadPool pool(threads);
  const std::byte* data = large_block().data;
  const auto all = [&] {
    pool.run(threads * kRounds, [&](int64_t, int worker) {
      benchmark::DoNotOptimize(sum_lines(data + worker * stream.piece, stream.piece));
    });
  };
  all();
  time_each(state, all);
  return {.bytes = static_cast<double>(stream.piece * threads * kRounds)};
}

Work read_together(benchmark::State& state, const Stream& stream, int threads) {
  ThreadPool pool(threads);
  const std::byte* data = large_block().data;
  const auto all = [&] {
    pool.run(stream.pieces, [&](int64_t i, int) {
      benchmark::DoNotOptimize(sum_lines(data + i * stream.piece, stream.piece));
    });
  };
  all();
  time_each(state, all);
  return {.bytes = static_cast<double>(stream.piece * stream.pieces)};
}

CpuCase read_case(const Stream& stream, int threads) {
  return {.of = {.kind = Kind::limit, .name = kRead, .shape = name_of(stream.level), .threads = threads},
          .seconds = 0.05,
          .run = [=](benchmark::State& state) {
            return stream.own ? read_own(state, stream, threads) : read_together(state, stream, threads);
          }};
}

struct Shape3 {
  int m, n, k;
};

// A chunk of 256 tokens against all encoders at the default size, and a square that OpenBLAS likes.
constexpr Shape3 kSgemmShapes[] = {{256, 32768, 256}, {2048, 2048, 2048}};

Work sgemm(benchmark::State& state, const Shape3& s, int threads) {
  const auto bytes = [](int64_t rows, int64_t columns) {
    return rows * columns * static_cast<int64_t>(sizeof(float));
  };
  const auto a = random_numbers(bytes(s.m, s.k)), b = random_numbers(bytes(s.k, s.n)),
             c = random_numbers(bytes(s.m, s.n));
  openblas_set_num_threads(threads);
  const auto all = [&] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s.m, s.n, s.k, 1.0f,
                reinterpret_cast<const float*>(a.get()), s.k, reinterpret_cast<const float*>(b.get()), s.n,
                0.0f, reinterpret_cast<float*>(c.get()), s.n);
  };
  all();
  time_each(state, all);
  // OpenBLAS's threads spin for a moment after a product; the next case should not pay for it.
  std::this_thread::sleep_for(std::chrono::milliseconds(threads > 1 ? 50 : 0));
  return {.flops = 2.0 * s.m * s.n * s.k};
}

std::string text_of(const Shape3& s) { return concat(s.m, " x ", s.n, " x ", s.k); }

CpuCase sgemm_case(const Shape3& s, int threads) {
  return {
      .of = {.kind = Kind::limit, .name = kSgemm, .shape = text_of(s), .dtype = "f32", .threads = threads},
      .seconds = 0.1,
      .run = [=](benchmark::State& state) { return sgemm(state, s, threads); }};
}

}  // namespace

std::vector<CpuCase> limit_cases(const Machine& machine) {
  std::vector<CpuCase> cases;
  for (int threads = 1;; threads = machine.cores) {
    for (const Stream& stream : streams(machine)) cases.push_back(read_case(stream, threads));
    for (const Shape3& shape : kSgemmShapes) cases.push_back(sgemm_case(shape, threads));
    if (threads == machine.cores) return cases;
  }
}

std::string openblas_description() {
  return concat(openblas_get_config(), ", running as ", openblas_get_corename());
}

Limits::Limits(Machine machine, const std::vector<Result>& results)
    : machine_(std::move(machine)), results_(results) {}

// The best rate of the cases with that name and, unless empty, that shape; bytes or flops a second.
double Limits::rate(const std::string& name, const std::string& shape, int threads) const {
  double best = 0;
  for (const Result& result : results_) {
    if (result.of.kind != Kind::limit || result.of.name != name || result.of.threads != threads) continue;
    if (result.samples.empty() || (!shape.empty() && result.of.shape != shape)) continue;
    best = std::max(best, (result.work.bytes + result.work.flops) / result.median());
  }
  return best;
}

Bound Limits::bound(const Work& work, int threads) const {
  const Level level = machine_.level_of(work.working_set, threads);
  const double read = rate(kRead, name_of(level), threads), multiply = rate(kSgemm, "", threads);
  if (read == 0 || multiply == 0) return {};
  const double moving = work.bytes / read, computing = work.flops / multiply;
  return moving >= computing ? Bound{moving, concat("read ", name_of(level))} : Bound{computing, kSgemm};
}

std::vector<Roof> Limits::roofs() const {
  std::vector<Roof> roofs;
  for (const Level level : {Level::memory, Level::l3, Level::l2, Level::l1}) {
    const double bytes = rate(kRead, name_of(level), machine_.cores);
    if (bytes > 0) roofs.push_back({concat("read ", name_of(level)), false, bytes});
  }
  roofs.push_back({kSgemm, true, rate(kSgemm, "", machine_.cores)});
  return roofs;
}

}  // namespace bdh::bench
