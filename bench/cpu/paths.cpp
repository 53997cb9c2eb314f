// Cases of sessions reading on a CPU.
#include "bench/cpu/paths.h"

#include "bdh/base/error.h"
#include "bench/work.h"
#include "kernels/cpu/backend.h"

namespace bdh::bench {

namespace {

// Reading 512 tokens at once, doing that again for one more token, and one token against a state.
constexpr const char* kPeerForward = "PyTorch forward";
constexpr const char* kPeerRecompute = "PyTorch recompute";
constexpr const char* kPeerCached = "PyTorch cached decode";

constexpr int64_t kChunk = 256;  // ReadOptions' default

ModelSizes sizes_of(Subject& subject) {
  return {subject.source().config, subject.weights()->dtype(), subject.state()};
}

using SharedSubject = std::shared_ptr<Subject>;

Work decode(benchmark::State& state, Subject& subject, int64_t position, int64_t batch) {
  const std::vector<Session*> sessions = subject.sessions(position, batch);
  std::vector<LayerActivity> activity;
  ReadOptions options;
  options.activity = &activity;
  const auto step = [&] {
    std::vector<int32_t> next;
    for (int64_t i = 0; i < batch; ++i)
      next.push_back(subject.tokens(sessions[i]->position() + 61 * i, 1).front());
    std::vector<std::span<const int32_t>> spans;
    for (const int32_t& token : next) spans.emplace_back(&token, 1);
    benchmark::DoNotOptimize(read_batch(sessions, spans, options));
  };
  step();
  time_each(state, step);
  return uncached(decode_work(sizes_of(subject), activity, static_cast<double>(batch), 1));
}

// The products of g with the decoder, and of r with S and x, skip zeros where there are many.
Work sparse_prefill_work(const ModelSizes& m, double tokens, double chunk, double logits, bool with_state) {
  Work work = prefill_work(m, tokens, chunk, logits, with_state);
  work.zeros = 2 * m.layers * m.rows * m.width * tokens * (with_state ? 3 : 1);
  return work;
}

struct Prefill {
  int64_t tokens;
  Form form;
  int64_t chunk;
};

// Times the reading alone, into a new session: its memory is touched for the first time, as in use.
Work prefill(benchmark::State& state, Subject& subject, const Prefill& how) {
  const std::vector<int32_t> tokens = subject.tokens(0, how.tokens);
  std::vector<LayerActivity> activity;
  const ReadOptions options{
      .form = how.form, .chunk = how.chunk, .progress = {}, .draws = {}, .activity = &activity};
  while (state.KeepRunning()) {
    Session session(subject.weights());
    state.SetIterationTime(seconds_of([&] { benchmark::DoNotOptimize(session.read(tokens, options)); }));
  }
  const ModelSizes sizes = sizes_of(subject);
  const auto count = static_cast<double>(how.tokens);
  if (how.form == Form::recurrent) {
    Work work = uncached(decode_work(sizes, activity, 1, 1));
    work.bytes *= count;
    work.flops *= count;
    work.tokens = count;
    return work;
  }
  return uncached(sparse_prefill_work(
      sizes, count, static_cast<double>(how.form == Form::parallel ? how.tokens : how.chunk), 1, true));
}

Work forward_once(benchmark::State& state, Subject& subject, int64_t count) {
  const std::vector<int32_t> tokens = subject.tokens(0, count);
  const std::span<const int32_t> span(tokens);
  subject.weights()->packed();
  time_each(state, [&] { benchmark::DoNotOptimize(forward(*subject.weights(), {&span, 1})); });
  const auto rows = static_cast<double>(count);
  return uncached(sparse_prefill_work(sizes_of(subject), rows, rows, rows, false));
}

// Adds the cases of one subject.
class Adder {
 public:
  Adder(std::vector<CpuCase>& cases, const std::shared_ptr<const Source>& source, DType dtype, int threads,
        DType state = DType::f32)
      : cases_(cases),
        subject_(std::make_shared<Subject>(
            source, dtype, [threads] { return cpu::make_backend({.threads = threads, .isa = ""}); }, kChunk,
            state)),
        common_{.kind = Kind::path, .dtype = option_name(dtype), .threads = threads},
        model_(concat(source->name, state == DType::bf16 ? ", S bf16" : "")) {}

  Case& decode_at(int64_t position, int64_t batch = 1) {
    const std::string sequences = batch == 1 ? "" : concat(", ", batch, " sequences");
    return add(concat("decode at ", position), concat(model_, sequences), 0.2,
               [=, subject = subject_](benchmark::State& state) {
                 return decode(state, *subject, position, batch);
               });
  }
  Case& prefill_of(const Prefill& how) {
    const std::string form = how.form == Form::parallel    ? "parallel"
                             : how.form == Form::recurrent ? "recurrent"
                                                           : concat("chunks of ", how.chunk);
    return add(concat("prefill ", how.tokens), concat(model_, ", ", form), 0.1,
               [=, subject = subject_](benchmark::State& state) { return prefill(state, *subject, how); });
  }
  Case& forward_of(int64_t tokens) {
    return add(
        concat("forward ", tokens), concat(model_, ", no state"), 0.1,
        [=, subject = subject_](benchmark::State& state) { return forward_once(state, *subject, tokens); });
  }

 private:
  Case& add(std::string name, std::string shape, double seconds, std::function<Work(benchmark::State&)> run) {
    CpuCase one{common_, seconds, std::move(run)};
    one.of.name = std::move(name);
    one.of.shape = std::move(shape);
    cases_.push_back(std::move(one));
    return cases_.back().of;
  }
  std::vector<CpuCase>& cases_;
  SharedSubject subject_;
  Case common_;
  std::string model_;
};

constexpr Prefill kPrompt{512, Form::chunked, kChunk}, kLongPrompt{2048, Form::chunked, kChunk};

// What is compared with PyTorch, and the numbers.
void add_main(Adder& adder) {
  adder.decode_at(512).peers = {kPeerRecompute, kPeerCached};
  adder.prefill_of(kPrompt).peers = {kPeerForward};
  adder.forward_of(512).peers = {kPeerForward};
}

// One chunk of 512 tokens is the parallel form.
void add_forms(Adder& adder) {
  adder.prefill_of(kLongPrompt);
  for (const int64_t chunk : {64, 128}) adder.prefill_of({512, Form::chunked, chunk});
  adder.prefill_of({512, Form::parallel, kChunk});
}

void add_batches(Adder& adder, int only) {
  adder.decode_at(4096);
  for (const int64_t batch : only > 0 ? std::vector<int64_t>{only} : std::vector<int64_t>{4, 16})
    adder.decode_at(512, batch);
}

void add_short(Adder& adder) {
  adder.decode_at(512);
  adder.prefill_of(kPrompt);
}

}  // namespace

std::vector<CpuCase> path_cases(const Machine& machine, const std::shared_ptr<const Source>& random,
                                const std::shared_ptr<const Source>& trained, const PathOptions& options) {
  std::vector<CpuCase> cases;
  const auto& first = random ? random : trained;  // the one that the peer has, too
  for (const auto& source : {random, trained}) {
    if (!source) continue;
    Adder adder(cases, source, DType::f32, machine.cores);
    if (source == first) {
      add_main(adder);
    } else {
      add_short(adder);
    }
    if (!options.quick) add_forms(adder);
    if (!options.quick || options.batch > 0) add_batches(adder, options.batch);
    if (!options.quick && source == trained) adder.prefill_of({512, Form::recurrent, kChunk});
    if (options.full) adder.decode_at(100000);
    for (const DType dtype : {DType::bf16, DType::i8, DType::u8}) {
      Adder narrow(cases, source, dtype, machine.cores);
      add_short(narrow);
      Adder narrow_state(cases, source, dtype, machine.cores, DType::bf16);
      narrow_state.decode_at(512);
    }
    if (options.quick) continue;
    Adder f16(cases, source, DType::f16, machine.cores);
    add_short(f16);
    if (machine.cores == 1) continue;
    Adder single(cases, source, DType::f32, 1);
    add_short(single);
    Adder single_bf16(cases, source, DType::bf16, 1);
    single_bf16.decode_at(512);
  }
  return cases;
}

std::vector<CpuCase> peer_cases(const std::shared_ptr<Peer>& peer, const std::string& model, int threads) {
  const auto one = [&](const char* name, const char* shape, const std::string& question, double tokens) {
    return CpuCase{.of = {.kind = Kind::peer,
                          .name = name,
                          .shape = concat(model, ", ", shape),
                          .dtype = "f32",
                          .threads = threads},
                   .seconds = 0.3,
                   .run = [=](benchmark::State& state) {
                     while (state.KeepRunning()) state.SetIterationTime(peer->ask_numbers(question).at(0));
                     return Work{.tokens = tokens};
                   }};
  };
  return {one(kPeerForward, "512 tokens", "forward f32 512 1", 512),
          one(kPeerRecompute, "at 512", "recompute f32 512 1", 1),
          one(kPeerCached, "at 512", "cached f32 512 1", 1)};
}

}  // namespace bdh::bench
