// The streams and sgemm, as cases, and the bounds that follow from them.
#include "bench/cpu/limits.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <iterator>
#include <thread>

#include "bdh/base/error.h"
#include "bdh/base/threads.h"
#include "bench/stream.h"

namespace bdh::bench {

namespace {

constexpr const char* kRead = "read stream";
constexpr const char* kWrite = "write stream";
constexpr const char* kSgemm = "sgemm";

// How a level is gone over: threads that each have a piece of their own, or that share all pieces.
struct Place {
  Level level;
  int64_t piece;   // bytes
  int64_t pieces;  // in all
  bool own;
};

std::vector<Place> places(const Machine& machine) {
  constexpr int64_t kWhole = 4096, kPiece = 1 << 20;
  const auto half = [](double bytes) { return static_cast<int64_t>(bytes / 2) / kWhole * kWhole; };
  std::vector<Place> all;
  if (machine.l1 > 0) all.push_back({Level::l1, half(machine.l1), machine.cores, true});
  if (machine.l2 > 0) all.push_back({Level::l2, half(machine.l2), machine.cores, true});
  if (machine.l3 > 0) all.push_back({Level::l3, kPiece / 4, half(machine.l3) / (kPiece / 4), false});
  all.push_back({Level::memory, kPiece, large_block().bytes / kPiece, false});
  return all;
}

// Goes over the piece at that offset so many times.
using GoOver = std::function<void(int64_t offset, int64_t bytes, int64_t rounds)>;

// Returns the bytes that an iteration moves.
double move_own(benchmark::State& state, const Place& place, int threads, const GoOver& go_over) {
  constexpr int64_t kParts = 16, kRounds = 8;
  ThreadPool pool(threads);
  const auto all = [&] {
    pool.run(threads * kParts,
             [&](int64_t, int worker) { go_over(worker * place.piece, place.piece, kRounds); });
  };
  all();
  time_each(state, all);
  return static_cast<double>(place.piece * threads * kParts * kRounds);
}

double move_together(benchmark::State& state, const Place& place, int threads, const GoOver& go_over) {
  ThreadPool pool(threads);
  const auto all = [&] {
    pool.run(place.pieces, [&](int64_t i, int) { go_over(i * place.piece, place.piece, 1); });
  };
  all();
  time_each(state, all);
  return static_cast<double>(place.piece * place.pieces);
}

double move(benchmark::State& state, const Place& place, int threads, const GoOver& go_over) {
  return place.own ? move_own(state, place, threads, go_over) : move_together(state, place, threads, go_over);
}

Work read_by(decltype(Stream::read) read, benchmark::State& state, const Place& place, int threads) {
  const std::byte* data = large_block().data;
  return {.bytes = move(state, place, threads, [&](int64_t offset, int64_t bytes, int64_t rounds) {
            benchmark::DoNotOptimize(read(data + offset, bytes, rounds));
          })};
}

Work read(benchmark::State& state, const Place& place, int threads, const Stream& stream) {
  return read_by(stream.read, state, place, threads);
}

Work read_parts(benchmark::State& state, const Place& place, int threads, const Stream& stream) {
  return read_by(stream.read_parts, state, place, threads);
}

Work write(benchmark::State& state, const Place& place, int threads, const Stream& stream) {
  std::byte* data = scratch_block();
  const double bytes = move(state, place, threads, [&](int64_t offset, int64_t count, int64_t rounds) {
    stream.write(data + offset, count, rounds);
  });
  return {.bytes = bytes, .written = bytes};
}

CpuCase stream_case(const char* name, Work (*run)(benchmark::State&, const Place&, int, const Stream&),
                    const Place& place, int threads, const Stream& stream, const char* way = "") {
  return {.of = {.kind = Kind::limit,
                 .name = name,
                 .shape = name_of(place.level),
                 .variant = concat(stream.isa, way),
                 .threads = threads},
          .seconds = 0.05,
          .run = [=](benchmark::State& state) { return run(state, place, threads, stream); }};
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

// What a loop takes beside its work: all of the pool's threads meet once.
Work hand_off(benchmark::State& state, int threads) {
  ThreadPool pool(threads);
  std::atomic<int64_t> arrived = 0;
  const auto meet = [&] {
    const int64_t all = arrived.load() + threads;
    pool.run(threads, [&](int64_t, int) {
      ++arrived;
      while (arrived.load() < all) {
      }
    });
  };
  meet();
  time_each(state, meet);
  return {};
}

CpuCase hand_off_case(int threads) {
  return {.of = {.kind = Kind::limit, .name = "hand-off to threads", .threads = threads},
          .seconds = 0.02,
          .run = [=](benchmark::State& state) { return hand_off(state, threads); }};
}

}  // namespace

std::vector<CpuCase> limit_cases(const Machine& machine) {
  std::vector<CpuCase> cases;
  for (int threads = 1;; threads = machine.cores) {
    for (const Place& place : places(machine)) {
      for (const Stream& stream : streams()) {
        cases.push_back(stream_case(kRead, read, place, threads, stream));
        if (!place.own) cases.push_back(stream_case(kRead, read_parts, place, threads, stream, ", 4 parts"));
        cases.push_back(stream_case(kWrite, write, place, threads, stream));
      }
    }
    for (const Shape3& shape : kSgemmShapes) cases.push_back(sgemm_case(shape, threads));
    if (threads > 1) cases.push_back(hand_off_case(threads));
    if (threads == machine.cores) return cases;
  }
}

Limits::Limits(Machine machine, const std::vector<Result>& results)
    : machine_(std::move(machine)), results_(results) {}

// The best rate of the cases with that name and, unless empty, that shape, by that time of theirs; bytes or
// flops a second.
double Limits::rate(const std::string& name, const std::string& shape, int threads, Time time) const {
  double best = 0;
  for (const Result& result : results_) {
    if (result.of.kind != Kind::limit || result.of.name != name || result.of.threads != threads) continue;
    if (result.samples.empty() || (!shape.empty() && result.of.shape != shape)) continue;
    best = std::max(best, (result.work.bytes + result.work.flops) / (result.*time)());
  }
  return best;
}

Bound Limits::longest(const Work& work, int threads, Time time) const {
  const Level level = machine_.level_of(work.working_set, threads);
  const char* name = name_of(level);
  const double read = rate(kRead, name, threads, time), write = rate(kWrite, name, threads, time),
               multiply = rate(kSgemm, "", threads, time);
  if (read == 0 || write == 0 || multiply == 0) return {};
  const Bound bounds[] = {{(work.bytes - work.written) / read, concat("read ", name)},
                          {work.written / write, concat("write ", name)},
                          {work.flops / multiply, kSgemm}};
  return *std::max_element(std::begin(bounds), std::end(bounds),
                           [](const Bound& a, const Bound& b) { return a.seconds < b.seconds; });
}

Bound Limits::bound(const Work& work, int threads) const {
  Bound bound = longest(work, threads, &Result::best);
  bound.usual = longest(work, threads, &Result::median).seconds;
  return bound;
}

std::vector<Roof> Limits::roofs() const {
  std::vector<Roof> roofs;
  for (const Level level : {Level::memory, Level::l3, Level::l2, Level::l1}) {
    const double bytes = rate(kRead, name_of(level), machine_.cores, &Result::best);
    if (bytes > 0) roofs.push_back({concat("read ", name_of(level)), false, bytes});
  }
  roofs.push_back({kSgemm, true, rate(kSgemm, "", machine_.cores, &Result::best)});
  return roofs;
}

}  // namespace bdh::bench
