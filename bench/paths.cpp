// Cases of sessions reading, and the bytes and flops that each cannot do without (kernels/backend.h has the
// formulas).
#include "bench/paths.h"

#include <algorithm>
#include <cmath>

#include "bdh/base/error.h"
#include "bench/peers.h"

namespace bdh::bench {

namespace {

constexpr double kStateBytes = sizeof(float);

// ---- the work ----

struct Sizes {
  double layers, width, heads, rows, vocab, element;  // rows: H * N

  explicit Sizes(const Weights& weights)
      : layers(static_cast<double>(weights.config().n_layer)),
        width(static_cast<double>(weights.config().n_embd)),
        heads(static_cast<double>(weights.config().n_head)),
        rows(static_cast<double>(weights.config().n_head * weights.config().neurons_per_head())),
        vocab(static_cast<double>(weights.config().vocab_size)),
        element(static_cast<double>(size_of(weights.dtype()))) {}
  double matrix() const { return rows * width * element; }     // bytes of E, Ev or the decoder
  double state() const { return rows * width * kStateBytes; }  // bytes of one layer's S
};

// Rows that at least one sequence of a batch wants, when each wants `share` of them independently of the
// others.
double wanted_by_any(double share, double batch) { return 1 - std::pow(1 - share, batch); }

/// One token of each of `batch` sequences: E whole; of Ev, the decoder and S the active rows, which the read
/// has counted.
Work decode_work(const Sizes& m, const std::vector<LayerActivity>& activity, double batch) {
  Work work{.bytes = m.vocab * m.width * m.element,
            .flops = 2 * batch * m.vocab * m.width,
            .working_set = 3 * m.matrix() + batch * m.layers * m.state(),
            .tokens = batch};
  for (const LayerActivity& layer : activity) {
    const double all = static_cast<double>(layer.tokens) * m.rows;
    const double n = static_cast<double>(layer.n) / all, g = static_cast<double>(layer.g) / all;
    const double pairs = 2 * static_cast<double>(layer.pairs) / all;
    work.bytes +=
        m.matrix() * (1 + wanted_by_any(n, batch) + wanted_by_any(g, batch)) + batch * pairs * m.state();
    work.flops += 2 * batch * m.rows * m.width * (1 + n + g + pairs);
  }
  return work;
}

/// Reading `tokens` from the start in chunks: three products, scores and scores x for earlier tokens of the
/// chunk, and with a state its growth and, after the first chunk, recall.
Work chunk_work(const Sizes& m, double tokens, double chunk, double logits, bool with_state) {
  const double chunks = std::ceil(tokens / chunk), last = tokens - (chunks - 1) * chunk;
  const double pairs = (chunks - 1) * chunk * (chunk - 1) / 2 + last * (last - 1) / 2;
  const double recalled = with_state ? tokens - std::min(chunk, tokens) : 0, added = with_state ? tokens : 0;
  const double matrices = 6 * tokens + 2 * recalled + 2 * added;
  const double state_passes =
      with_state ? 2 * chunks - 1 : 0;  // written by each chunk, read by all but the first
  return {
      .bytes = m.layers * (3 * chunks * m.matrix() + state_passes * m.state()),
      .flops = m.layers * (matrices * m.rows * m.width + 2 * pairs * m.rows + 2 * pairs * m.heads * m.width) +
               2 * logits * m.width * m.vocab,
      .working_set = 3 * m.matrix() + (with_state ? m.layers * m.state() : 0),
      .tokens = tokens};
}

// ---- the cases ----

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
  return decode_work(Sizes(*subject.weights()), activity, static_cast<double>(batch));
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
  const Sizes sizes(*subject.weights());
  const auto count = static_cast<double>(how.tokens);
  if (how.form == Form::recurrent) {
    Work work = decode_work(sizes, activity, 1);
    work.bytes *= count;
    work.flops *= count;
    work.tokens = count;
    return work;
  }
  return chunk_work(sizes, count, static_cast<double>(how.form == Form::parallel ? how.tokens : how.chunk), 1,
                    true);
}

Work forward_once(benchmark::State& state, Subject& subject, int64_t count) {
  const std::vector<int32_t> tokens = subject.tokens(0, count);
  const std::span<const int32_t> span(tokens);
  subject.weights()->packed();
  time_each(state, [&] { benchmark::DoNotOptimize(forward(*subject.weights(), {&span, 1})); });
  const auto rows = static_cast<double>(count);
  return chunk_work(Sizes(*subject.weights()), rows, rows, rows, false);
}

// Adds the cases of one subject.
class Adder {
 public:
  Adder(std::vector<Case>& cases, const std::shared_ptr<const Source>& source, DType dtype,
        std::string dtype_name, int threads)
      : cases_(cases),
        subject_(std::make_shared<Subject>(source, dtype, threads)),
        common_{.kind = Kind::path, .dtype = std::move(dtype_name), .threads = threads},
        model_(source->name) {}

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
    Case one = common_;
    one.name = std::move(name);
    one.shape = std::move(shape);
    one.seconds = seconds;
    one.run = std::move(run);
    cases_.push_back(std::move(one));
    return cases_.back();
  }
  std::vector<Case>& cases_;
  SharedSubject subject_;
  Case common_;
  std::string model_;
};

constexpr int64_t kChunk = 256;  // ReadOptions' default
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

void add_batches(Adder& adder) {
  adder.decode_at(4096);
  for (const int64_t batch : {4, 16}) adder.decode_at(512, batch);
}

void add_short(Adder& adder) {
  adder.decode_at(512);
  adder.prefill_of(kPrompt);
}

}  // namespace

std::vector<Case> path_cases(const Machine& machine, const std::shared_ptr<const Source>& random,
                             const std::shared_ptr<const Source>& trained, const PathOptions& options) {
  std::vector<Case> cases;
  for (const auto& source : {random, trained}) {
    if (!source) continue;
    Adder adder(cases, source, DType::f32, "f32", machine.cores);
    if (source == random) {
      add_main(adder);
    } else {
      add_short(adder);
    }
    if (!options.quick) {
      add_forms(adder);
      add_batches(adder);
    }
    if (!options.quick && source == trained) adder.prefill_of({512, Form::recurrent, kChunk});
    if (options.full) adder.decode_at(100000);
    Adder bf16(cases, source, DType::bf16, "bf16", machine.cores);
    add_short(bf16);
    if (options.quick) continue;
    Adder f16(cases, source, DType::f16, "f16", machine.cores);
    add_short(f16);
    if (machine.cores == 1) continue;
    Adder single(cases, source, DType::f32, "f32", 1);
    add_short(single);
    Adder single_bf16(cases, source, DType::bf16, "bf16", 1);
    single_bf16.decode_at(512);
  }
  return cases;
}

}  // namespace bdh::bench
