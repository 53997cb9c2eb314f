// Limits first, then whole paths, kernels, and last the peer, whose compiler takes longest.
#include "bench/cuda/run.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>

#include "bdh/base/error.h"
#include "bench/cuda/decode_cases.h"
#include "bench/cuda/device_info.h"
#include "bench/cuda/paths.h"
#include "bench/cuda/prefill_cases.h"
#include "bench/peers.h"
#include "bench/stopwatch.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/devices.h"

namespace bdh::bench {

namespace {

constexpr int kThreadsOfPeer = 0;  // its own choice

int index_of(const Backend& backend) {
  const std::string name = backend.name();  // "cuda:0, NVIDIA H100"
  int index = 0;
  std::from_chars(name.data() + name.find(':') + 1, name.data() + name.size(), index);
  return index;
}

class GpuRun {
 public:
  GpuRun(const Options& options, const std::shared_ptr<Backend>& backend, const GpuRunSizes& sizes)
      : options_(options),
        sizes_(sizes),
        backend_(backend),
        wanted_(options),
        device_(index_of(*backend)),
        queue_(std::make_shared<cuda::Queue>(device_)),
        timer_(queue_->stream, samples(7, 15), options.quick ? 1e-3 : 3e-3) {}

  Report run() {
    if (wants_trained(options_)) sources_.push_back(trained_source(options_.model, backend_));
    if (wants_random(options_)) {
      const std::string name = options_.shape.empty() ? "default" : options_.shape;
      sources_.push_back(random_source(config_of_shape(options_.shape), name));
    }
    report_.date = now("%Y-%m-%d %H:%M UTC");
    limits();
    paths();
    kernels();
    peers();
    return finished();
  }

 private:
  using SharedSource = std::shared_ptr<const Source>;

  // ---- what is wanted, and for how long ----

  int samples(int quick, int patient) const {
    return sizes_.samples > 0 ? sizes_.samples : options_.quick ? quick : patient;
  }
  bool over() const { return options_.seconds > 0 && since_.seconds() > options_.seconds; }

  // Seconds that a peer may take for one answer; 0: as long as it likes.
  double patience() const {
    constexpr double kLeast = 5;
    return options_.seconds > 0 ? std::max(options_.seconds - since_.seconds(), kLeast) : 0;
  }

  /// measure()'s results; a result with an error when it fails or the time is over.
  template <class Measure>
  void add(const Case& of, Measure&& measure) {
    if (options_.progress) options_.progress(of.id());
    try {
      if (over()) fail(ErrorKind::unsupported, kTimeOver);
      for (Result& result : measure()) results_.push_back(std::move(result));
    } catch (const std::exception& error) {
      results_.push_back({of, {}, {}, error.what(), {}});
    }
  }

  /// Those that were asked for, or the ones that matter most first.
  std::vector<DType> dtypes() const {
    if (!options_.dtype.empty()) return {*dtype_from_option(options_.dtype)};
    return options_.quick ? std::vector{DType::bf16} : std::vector{DType::bf16, DType::f32};
  }
  /// Weights of 8 and 4 bits, of which the main rows alone are measured.
  std::vector<DType> quantized() const {
    return options_.quick || !options_.dtype.empty() ? std::vector<DType>{}
                                                     : std::vector{DType::i8, DType::u8};
  }
  std::vector<int64_t> batches() const {
    if (options_.batch > 0) return {options_.batch};
    return sizes_.batches;
  }
  std::shared_ptr<Subject> subject_of(const SharedSource& source, DType dtype) {
    return std::make_shared<Subject>(
        source, dtype, [this] { return backend_; }, sizes_.chunks.front());
  }

  // ---- limits ----

  void limits() {
    LimitSizes sizes = sizes_.limits;
    sizes.halves = options_.dtype == "f16";
    const Case of{.kind = Kind::limit, .name = "limits"};
    add(of, [&] { return measure_limits(timer_, queue_->stream, blas_, sizes); });
    info_ = gpu_info(device_);
  }

  // ---- paths ----

  void paths() {
    for (const SharedSource& source : sources_) {
      for (const DType dtype : dtypes()) {
        const bool main = source == sources_.front() && dtype == dtypes().front();
        if (!main && options_.quick) continue;
        const std::shared_ptr<Subject> subject = subject_of(source, dtype);
        prompts_of(*subject, dtype, main);
        decoding_of(*subject, dtype, main);
        for (const auto& [sequences, tokens] : sizes_.training) train(*subject, dtype, sequences, tokens);
      }
      for (const DType dtype : quantized()) {
        const std::shared_ptr<Subject> subject = subject_of(source, dtype);
        prompts_of(*subject, dtype, false);
        decoding_of(*subject, dtype, false);
      }
    }
  }

  void decoding_of(Subject& subject, DType dtype, bool main) {
    const int64_t first = sizes_.positions.front();
    for (const int64_t position : sizes_.positions) {
      if (main || position == first) decode(subject, dtype, {.position = position, .batch = 1});
    }
    if (main) decode(subject, dtype, {.position = first, .batch = 1, .draws = false}, "logits to the host");
    subject.forget_sessions();
    if (!main) return;
    for (const int64_t batch : batches()) {
      if (batch > 1) decode(subject, dtype, {.position = first, .batch = batch});
      subject.forget_sessions();
    }
    if (options_.batch == 0) crossover(subject, dtype);
    overlapped(subject, dtype);
    if (dtype != DType::f32) other_mma(subject, dtype);
  }

  // One sequence, each kernel started while the one before it ends: whether Options::overlap should be set.
  void overlapped(Subject& subject, DType dtype) {
    if (!cuda::can_overlap(device_)) return;
    auto backend = cuda::make_backend(device_, {.overlap = true});
    Subject other(
        subject.shared_source(), dtype, [&] { return backend; }, sizes_.chunks.front());
    decode(other, dtype, {.position = sizes_.positions.front(), .batch = 1}, "overlapped");
  }

  // Prompts and the largest batch on the tensor cores' other instructions: Options::mma should be the
  // faster.
  void other_mma(Subject& subject, DType dtype) {
    const std::vector<cuda::Mma> mmas = mmas_of(device_);
    if (mmas.size() < 2) return;
    auto backend = cuda::make_backend(device_, {.mma = mmas.back()});
    Subject other(
        subject.shared_source(), dtype, [&] { return backend; }, sizes_.chunks.front());
    for (const int64_t tokens : sizes_.prompts)
      prefill(other, dtype, tokens, sizes_.chunks.front(), name_of(mmas.back()));
    const int64_t batch = batches().empty() ? 1 : batches().back();
    if (batch > 1)
      decode(other, dtype, {.position = sizes_.positions.front(), .batch = batch}, name_of(mmas.back()));
  }

  // The same batch by the sparse step, with lists of their own and shared ones, and by dense products:
  // kSharedBatch and kDenseBatch should lie where they are equal.
  void crossover(Subject& subject, DType dtype) {
    constexpr int kNever = std::numeric_limits<int>::max();
    const std::pair<cuda::Options, const char*> ways[] = {
        {{.dense_batch = kNever, .shared_batch = kNever}, "sparse"},
        {{.dense_batch = kNever, .shared_batch = 1}, "sparse, shared lists"},
        {{.dense_batch = 1}, "dense"}};
    for (const auto& [options, name] : ways) {
      auto backend = cuda::make_backend(device_, options);
      Subject other(
          subject.shared_source(), dtype, [&] { return backend; }, sizes_.chunks.front());
      for (const int64_t batch : sizes_.crossover)
        decode(other, dtype, {.position = sizes_.positions.front(), .batch = batch}, name);
    }
  }

  void prompts_of(Subject& subject, DType dtype, bool main) {
    const int64_t typical = sizes_.prompts[std::min<size_t>(2, sizes_.prompts.size() - 1)];
    for (const int64_t tokens : sizes_.prompts) {
      if (main || tokens == typical) prefill(subject, dtype, tokens, sizes_.chunks.front());
    }
    if (!main || options_.quick) return;
    for (size_t i = 1; i < sizes_.chunks.size(); ++i) prefill(subject, dtype, typical, sizes_.chunks[i]);
  }

  void decode(Subject& subject, DType dtype, DecodePlan plan, const char* how = "") {
    const Case of = decode_case(subject.source().name, dtype, plan.position, plan.batch, how);
    if (!wanted_(of)) return;
    plan.samples = samples(7, 15);
    plan.seconds = options_.quick ? 0.05 : 0.1;
    add(of, [&] { return std::vector{measure_decode(subject, of, plan)}; });
  }

  void prefill(Subject& subject, DType dtype, int64_t tokens, int64_t chunk, const char* how = "") {
    const Case of = prefill_case(subject.source().name, dtype, tokens, chunk, how);
    if (!wanted_(of)) return;
    const int times = tokens > 10000 ? samples(3, 5) : samples(5, 9);
    add(of, [&] { return std::vector{measure_prefill(subject, of, tokens, chunk, times)}; });
  }

  void train(Subject& subject, DType dtype, int64_t sequences, int64_t tokens) {
    const Case of = training_case(subject.source().name, dtype, sequences, tokens);
    if (!wanted_(of)) return;
    add(of, [&] { return std::vector{measure_training(subject, of, sequences, tokens, samples(5, 9))}; });
  }

  // ---- kernels ----

  void kernels() {
    std::vector<DType> all = dtypes();
    for (const DType dtype : quantized()) all.push_back(dtype);
    for (const SharedSource& source : sources_) {
      for (const DType dtype : all) {
        if (options_.quick && source != sources_.front()) continue;
        const Case of{
            .kind = Kind::kernel, .name = "kernels", .shape = source->name, .dtype = option_name(dtype)};
        add(of, [&] {
          kernels_of(source, dtype);
          return std::vector<Result>{};
        });
      }
    }
  }

  void kernels_of(const SharedSource& source, DType dtype) {
    const GpuModel model(subject_of(source, dtype), queue_);
    std::vector<int64_t> batches{1};
    if (options_.batch > 0)
      batches = {options_.batch};
    else if (!sizes_.batches.empty())
      batches.push_back(sizes_.batches.back());
    for (const int64_t batch : batches) decode_kernels(model, dtype, static_cast<int>(batch));
    for (const int segments : {1, sizes_.chunk_segments})
      prefill_kernels(model, dtype, segments, sizes_.chunk_tokens);
    if (batches.back() > 1) prefill_kernels(model, dtype, static_cast<int>(batches.back()), 1);
  }

  void decode_kernels(const GpuModel& model, DType dtype, int batch) {
    const Case of{.kind = Kind::kernel,
                  .name = concat("a step of ", batch),
                  .shape = model.name(),
                  .dtype = option_name(dtype)};
    const bool any =
        std::any_of(std::begin(kDecodeKernels), std::end(kDecodeKernels), [&](const char* kernel) {
          return wanted_(decode_kernel_case(kernel, model.name(), batch, option_name(dtype)));
        });
    if (!any || model.sizes().stride > cuda::kWidestDecode) return;
    add(of, [&] {
      const DecodeInputs inputs(model, batch, sizes_.positions.front(), static_cast<int64_t>(4 * info_.l2));
      return measured(inputs.families(option_name(dtype)));
    });
  }

  void prefill_kernels(const GpuModel& model, DType dtype, int segments, int tokens) {
    const Case of{.kind = Kind::kernel,
                  .name = concat("a chunk of ", segments, " x ", tokens),
                  .shape = model.name(),
                  .dtype = option_name(dtype)};
    const bool any =
        std::any_of(std::begin(kPrefillKernels), std::end(kPrefillKernels), [&](const char* kernel) {
          return wanted_(prefill_kernel_case(kernel, model.name(), static_cast<size_t>(segments), tokens,
                                             option_name(dtype)));
        });
    if (!any) return;
    add(of, [&] {
      const PrefillInputs inputs(model, blas_, segments, tokens, sizes_.positions.front());
      return measured(inputs.families(option_name(dtype)));
    });
  }

  std::vector<Result> measured(const std::vector<Family>& families) {
    std::vector<Result> results;
    for (const Family& family : families) {
      if (!wanted_(family.of)) continue;
      if (options_.progress) options_.progress(family.of.id());
      if (over()) {
        results.push_back({family.of, {}, {}, kTimeOver, {}});
        continue;
      }
      for (Result& result : timer_.measure(family)) results.push_back(std::move(result));
    }
    return results;
  }

  // ---- peers ----

  struct Question {
    const char* name;
    const char* question;
    int64_t length;
    bool named_by_length;
    double tokens;
  };

  // What takes longest comes last.
  std::vector<Question> questions(DType dtype) const {
    const int64_t first = sizes_.positions.front();
    std::vector<Question> all{{kPeerCached, "cached", first, false, 1},
                              {kPeerGraph, "graph", first, false, 1}};
    if (dtype != DType::f32) all.push_back({kPeerHalf, "graph_half", first, false, 1});
    for (const int64_t length : sizes_.positions)
      if (length <= 8192) all.push_back({kPeerRecompute, "recompute", length, true, 1});
    for (const int64_t length : sizes_.prompts)
      if (length <= 8192) all.push_back({kPeerForward, "forward", length, true, static_cast<double>(length)});
    for (const int64_t length : sizes_.prompts)
      if (length <= 8192 && length > 512)
        all.push_back({kPeerCompiled, "compiled", length, true, static_cast<double>(length)});
    return all;
  }

  bool asked_for(const Case& peer) const {
    return wanted_(peer) || std::any_of(results_.begin(), results_.end(), [&](const Result& result) {
             const auto& names = result.of.peers;
             return result.of.dtype == peer.dtype &&
                    std::find(names.begin(), names.end(), peer.name) != names.end();
           });
  }

  // The peer has the first source, at which the main paths were measured.
  void peers() {
    if (sources_.empty() || over()) {
      report_.peer = "none: the time given was over";
      return;
    }
    const SharedSource& source = sources_.front();
    if (options_.progress) options_.progress("starting PyTorch");
    const std::shared_ptr<Peer> peer =
        start_peer(options_, *source, concat("cuda:", device_), kThreadsOfPeer, patience(), &report_.peer);
    if (!peer) return;
    for (const DType dtype : dtypes()) {
      agree(*peer, source, dtype);
      for (const Question& question : questions(dtype)) ask(*peer, source->name, dtype, question);
    }
  }

  void agree(Peer& peer, const SharedSource& source, DType dtype) {
    try {
      peer.set_patience(patience());
      report_.notes.push_back(agreement(peer, *subject_of(source, dtype), dtype));
    } catch (const std::exception& error) {
      report_.notes.push_back(concat("The peer's logits could not be compared: ", error.what()));
    }
  }

  void ask(Peer& peer, const std::string& model, DType dtype, const Question& question) {
    const Case of{
        .kind = Kind::peer,
        .name = question.named_by_length ? at_length(question.name, question.length) : question.name,
        .shape = model,
        .dtype = option_name(dtype)};
    if (!asked_for(of)) return;
    add(of, [&] {
      Result result{of, {.tokens = question.tokens}, {}, {}, {}};
      peer.set_patience(patience());
      result.samples = peer.ask_numbers(
          concat(question.question, ' ', of.dtype, ' ', question.length, ' ', samples(5, 11)));
      return std::vector{result};
    });
  }

  // ---- the report ----

  static double detail_of(const Result& result, std::string_view name) {
    for (const auto& [key, value] : result.details)
      if (key == name) return value.as_number();
    return 0;
  }

  // Variants that do not compute the same, and whether memory grew with a prompt.
  void add_notes() {
    for (const Result& result : results_) {
      const double differs = detail_of(result, "differs"), most = result.of.dtype == "f32" ? 1e-3 : 0.05,
                   before = detail_of(result, "memory_before"), after = detail_of(result, "memory_after");
      if (!(differs <= most))
        report_.notes.push_back(
            concat(result.of.id(), " differs by ", differs, " from the first way to do it."));
      if (after != before)
        report_.notes.push_back(
            concat(result.of.id(), " left ", (after - before) / 1048576, " MB more in use."));
    }
  }

  Report finished() {
    add_notes();
    const GpuLimits limits(results_);
    report_.device = info_.name;
    report_.heading = {info_.text(), Blas::name()};
    report_.machine = info_.json();
    report_.machine.emplace_back("blas", Blas::name());
    report_.machine.emplace_back("seconds", since_.seconds());
    report_.roofs = limits.roofs();
    report_.rows =
        rows_of(results_, [&](const Result& result) { return limits.bound(result.work, result.of.dtype); });
    return std::move(report_);
  }

  const Options& options_;
  const GpuRunSizes& sizes_;
  std::shared_ptr<Backend> backend_;
  Wanted wanted_;
  int device_;
  std::shared_ptr<const cuda::Queue> queue_;
  Timer timer_;
  Blas blas_;
  Stopwatch since_;
  GpuInfo info_;
  std::vector<SharedSource> sources_;  // the first is the main one
  std::vector<Result> results_;
  Report report_;
};

}  // namespace

Report run_on_cuda(const Options& options, const std::shared_ptr<Backend>& backend,
                   const GpuRunSizes& sizes) {
  return GpuRun(options, backend, sizes).run();
}

}  // namespace bdh::bench
