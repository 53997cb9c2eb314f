// The GPU benchmarks on the emulator: that every variant of a kernel computes the same on the buffers it is
// given, and that a whole run gathers what it should. Times mean nothing here.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "bench/chart.h"
#include "bench/cuda/decode_cases.h"
#include "bench/cuda/paths.h"
#include "bench/cuda/prefill_cases.h"
#include "bench/cuda/run.h"
#include "kernels/backends.h"
#include "kernels/cuda/backend.h"
#include "tests/support/temporary.h"

using namespace bdh;
using namespace bdh::bench;

namespace {

// A GPU's model of a size that the emulator runs in a moment, on buffers of the tiled kernels.
struct SmallModel {
  explicit SmallModel(DType dtype, const char* shape = "2x64x2x2")
      : subject(std::make_shared<Subject>(
            random_source(config_of_shape(shape), "tiny"), dtype, [] { return cuda::make_backend(); }, 16)),
        queue(std::make_shared<cuda::Queue>(0)),
        model(subject, queue) {}
  std::shared_ptr<Subject> subject;
  std::shared_ptr<const cuda::Queue> queue;
  GpuModel model;
};

double number_of(const Result& result, const std::string& name) {
  for (const auto& [key, value] : result.details)
    if (key == name) return value.as_number();
  return -1;
}

// Measures a family; its variants must agree.
std::vector<Result> check_family(const Timer& timer, const Family& family, size_t variants,
                                 double tolerance) {
  std::vector<Result> results = timer.measure(family);
  CAPTURE(family.of.id());
  CHECK(results.size() == variants);
  for (const Result& result : results) {
    CAPTURE(result.of.variant);
    CHECK_MESSAGE(result.error.empty(), result.error);
    CHECK(result.samples.size() == 2);
    CHECK(result.median() > 0);
    CHECK(result.work.bytes + result.work.cached > 0);
    if (&result == &results.front()) continue;
    CHECK(number_of(result, "differs") >= 0);
    CHECK(number_of(result, "differs") < tolerance);
  }
  return results;
}

// Ours, on each unit, and cuBLAS.
size_t rungs_of(const std::string& kernel, DType dtype) {
  if (kernel == "embed_prefill") return 1;
  return kernel == "project_logits" || dtype == DType::f32 ? 2 : 1 + mmas_of(0).size();
}

GpuRunSizes small_run() {
  GpuRunSizes sizes;
  sizes.limits = {.memory = 1 << 14,
                  .cache = 1 << 12,
                  .cache_rounds = 2,
                  .square = 16,
                  .square_float = 8,
                  .rows = 8,
                  .neurons = 16,
                  .width = 8};
  sizes.positions = {5, 9};
  sizes.batches = {2};
  sizes.crossover = {2};
  sizes.prompts = {6, 20};
  sizes.chunks = {8, 4};
  sizes.training = {{2, 5}};
  sizes.chunk_tokens = 24;
  sizes.chunk_segments = 2;
  sizes.samples = 1;
  return sizes;
}

const Row* row_of(const Report& report, const std::string& name, const std::string& variant) {
  for (const Row& row : report.rows)
    if (row.result.of.name == name && row.result.of.variant == variant) return &row;
  return nullptr;
}

}  // namespace

TEST_CASE("GPU bench: the step's variants agree, and its activity is a step's") {
  const SmallModel small(DType::bf16);
  const Timer timer(small.model.stream(), 2, 1e-4);
  for (const int batch : {1, 3}) {
    const DecodeInputs inputs(small.model, batch, 9, 1);
    const std::vector<Family> families = inputs.families("bf16");
    CHECK(families.size() == std::size(kDecodeKernels));
    for (size_t i = 0; i < families.size(); ++i) CHECK(families[i].of.name == kDecodeKernels[i]);
    for (const Family& family : families) {
      const bool shares = family.of.name == "gate_decode" && batch > 1;
      check_family(timer, family, shares || family.of.name == "layer_decode" ? 2 : 1, 1e-5);
    }
    CHECK(inputs.activity().size() == 2);
    for (const LayerActivity& layer : inputs.activity()) {
      CHECK(layer.tokens == batch);
      CHECK(layer.n > 0);
      CHECK(layer.n <= batch * 2 * 64);
      CHECK(2 * layer.pairs >= layer.n);
      CHECK(layer.g <= layer.n);
    }
  }
}

TEST_CASE("GPU bench: activity in a set is what the sessions count for the same token") {
  const SmallModel small(DType::f32);
  const DecodeInputs inputs(small.model, 1, 9, 1);
  Session session(small.subject->weights());
  std::vector<LayerActivity> counted;
  session.read(small.subject->tokens(0, 9));
  ReadOptions options;
  options.activity = &counted;
  session.read(small.subject->tokens(9, 1), options);
  REQUIRE(inputs.activity().size() == counted.size());
  for (size_t layer = 0; layer < counted.size(); ++layer) {
    CHECK(inputs.activity()[layer].n == counted[layer].n);
    CHECK(inputs.activity()[layer].pairs == counted[layer].pairs);
    CHECK(inputs.activity()[layer].g == counted[layer].g);
  }
}

TEST_CASE("GPU bench: the chunk's variants agree, one sequence and several") {
  for (const DType dtype : {DType::bf16, DType::f32}) {
    const SmallModel small(dtype, "1x64x2x2");
    const Timer timer(small.model.stream(), 2, 1e-6);
    Blas blas;
    for (const int segments : {dtype == DType::f32 ? 1 : 2}) {
      const PrefillInputs inputs(small.model, blas, segments, 24, 9);
      const std::vector<Family> families = inputs.families(option_name(dtype));
      CHECK(families.size() == 5);
      for (const Family& family : families)
        CHECK(std::find(std::begin(kPrefillKernels), std::end(kPrefillKernels), family.of.name) !=
              std::end(kPrefillKernels));
      const double tolerance = dtype == DType::f32 ? 1e-5 : 2e-2;
      for (const Family& family : families)
        check_family(timer, family, rungs_of(family.of.name, dtype), tolerance);
    }
  }
}

TEST_CASE("GPU bench: a batch of single tokens is read as sessions read it") {
  const SmallModel small(DType::f32, "1x64x2x2");
  const Timer timer(small.model.stream(), 2, 1e-6);
  Blas blas;
  const PrefillInputs inputs(small.model, blas, 3, 1, 9);
  const std::vector<Family> families = inputs.families("f32");
  REQUIRE(families.size() == 3);
  check_family(timer, families[0], 2, 1e-5);
  check_family(timer, families[1], 1, 1e-5);
  check_family(timer, families[2], 2, 1e-5);
  CHECK(families[1].of.name == "attention_rows");
  CHECK(families[1].work.bytes > 0);
}

TEST_CASE("GPU bench: a variant that fails is an error and stops nobody") {
  const SmallModel small(DType::f32);
  const Timer timer(small.model.stream(), 2, 1e-4);
  const Family family{.of = {.name = "broken"},
                      .variants = {{"good", [](int) {}},
                                   {"bad", [](int) { cuda::check(cudaErrorInvalidValue, "breaking"); }}}};
  const std::vector<Result> results = timer.measure(family);
  REQUIRE(results.size() == 2);
  CHECK(results[0].samples.size() == 2);
  CHECK(results[1].samples.empty());
  CHECK(results[1].error.find("breaking") != std::string::npos);
}

TEST_CASE("GPU bench: differences between results") {
  CHECK(relative_difference({1, 2}, {1, 2}) == 0);
  CHECK(relative_difference({3, 4.5f}, {3, 4}) == doctest::Approx(0.1));
  CHECK(relative_difference({1}, {1, 2}) > 1e30);
  CHECK(relative_difference({NAN}, {1}) > 1e30);
  CHECK(relative_difference({0, 1}, {0, 0}) == 1);
}

TEST_CASE("GPU bench: a whole run has limits, paths and every kernel, and draws its pictures") {
  Options options;
  options.device = "cuda";
  options.shape = "1x64x2x2";
  options.quick = true;
  options.dtype = "f32";  // the emulator takes its time over the tensor cores' products
  const Report report = run_on_cuda(options, cuda::make_backend(), small_run());
  for (const Row& row : report.rows) {
    CAPTURE(row.result.of.id());
    CHECK_MESSAGE(row.result.error.empty(), row.result.error);
    const bool judged = row.result.of.kind == Kind::kernel || row.result.of.kind == Kind::path;
    CHECK((row.share > 0) == judged);
  }
  CHECK(report.roofs.size() == 4);  // memory, cache, products of bfloat16 and float32
  for (const char* path : {"decode at 5", "decode at 9", "prefill 6", "prefill 20", "train 2 x 5"})
    CHECK(row_of(report, path, "") != nullptr);
  for (const char* kernel : {"attention_decode", "gate_decode", "embed_decode", "project_logits",
                             "embed_prefill", "attention_rows", "draw_tokens, greedy"})
    CHECK(row_of(report, kernel, "bdh") != nullptr);
  for (const char* kernel : {"encode_prefill", "attention_prefill", "gate_prefill"}) {
    CHECK(row_of(report, kernel, "bdh") != nullptr);
    CHECK(row_of(report, kernel, "cuBLAS") != nullptr);
  }
  CHECK(row_of(report, "layer_decode", "reference") != nullptr);
  CHECK(report.peer == "none was asked for");
  CHECK(report.notes.empty());  // variants agree, and prompts leave no memory in use
  const Json json = json_of(report);
  CHECK(bar_chart(json).find("attention_decode") != std::string::npos);
  CHECK(roofline_chart(json).find("decode at 5") != std::string::npos);
  CHECK(table_of(report).find("Emulated GPU") != std::string::npos);
}

TEST_CASE("GPU bench: a peer is asked what the paths are compared with, and may refuse") {
  const test::TemporaryDirectory directory;
  Options options;
  options.shape = "1x64x2x2";
  options.quick = true;
  options.filter = "decode_at_5/1x64x2x2/|prefill_6/";
  options.python = "/bin/sh";
  options.scratch = directory.path();
  options.script = directory.write("peer", R"(
echo "made-up peer"
while read -r question dtype tokens count; do
  case $question in
    logits | cached_logits) echo 1 2 3 ;;
    graph) echo "error: no graphs" ;;
    *) echo 1000 2000 1500 ;;
  esac
done
)");
  const Report report = run_on_cuda(options, cuda::make_backend(), small_run());
  CHECK(report.peer == "made-up peer");
  REQUIRE(report.notes.size() == 1);
  CHECK(report.notes[0].find("logits") != std::string::npos);
  const Row* cached = row_of(report, kPeerCached, "");
  REQUIRE(cached != nullptr);
  CHECK(cached->result.median() == 1500);
  REQUIRE(row_of(report, kPeerGraph, "") != nullptr);
  CHECK(row_of(report, kPeerGraph, "")->result.error.find("no graphs") != std::string::npos);
  CHECK(row_of(report, at_length(kPeerForward, 6), "") != nullptr);
  CHECK(row_of(report, at_length(kPeerForward, 20), "") == nullptr);
  const Row* decode = row_of(report, "decode at 5", "");
  REQUIRE(decode != nullptr);
  REQUIRE(decode->peers.size() == 3);  // recompute, cached, half state
  for (const auto& [name, ratio] : decode->peers) CHECK(ratio > 1);
  CHECK(row_of(report, "prefill 6", "")->peers.size() == 1);
}

TEST_CASE("GPU bench: without a peer's script there is a reason") {
  Options options;
  options.shape = "1x64x2x2";
  options.filter = "nothing";
  options.python = "/bin/sh";
  options.script = "no/such/script";
  CHECK(run_on_cuda(options, cuda::make_backend(), small_run()).peer.find("no/such/script") !=
        std::string::npos);
}

TEST_CASE("GPU bench: a filter, a dtype, a batch and the time are kept to") {
  Options options;
  options.shape = "1x64x2x2";
  options.filter = "attention_decode|prefill_6";
  options.dtype = "f32";
  options.batch = 3;
  const Report report = run_on_cuda(options, cuda::make_backend(), small_run());
  for (const Row& row : report.rows) {
    const Case& of = row.result.of;
    if (of.kind == Kind::limit) continue;
    CAPTURE(of.id());
    CHECK((of.name == "attention_decode" || of.name == "prefill 6"));
    CHECK(of.dtype == "f32");
    if (of.kind == Kind::kernel) CHECK(of.shape == "1x64x2x2, 3 sequences");
  }
  options.filter = "";
  options.seconds = 1e-9;
  for (const Row& row : run_on_cuda(options, cuda::make_backend(), small_run()).rows)
    CHECK(row.result.error == kTimeOver);
}
