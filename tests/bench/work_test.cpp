// Bytes and flops of kernels and paths, against numbers worked out by hand.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bench/options.h"
#include "bench/work.h"
#include "tests/support/models.h"

using namespace bdh;
using namespace bdh::bench;

namespace {

const Config kSmall = test::config_of(2, 4, 2, 3, 10);  // N 6

LayerActivity activity_of(int64_t tokens, int64_t n, int64_t pairs, int64_t g) {
  LayerActivity layer;
  layer.tokens = tokens;
  layer.n = n;
  layer.pairs = pairs;
  layer.g = g;
  return layer;
}

}  // namespace

TEST_CASE(
    "bench work: the default model's token is the worked example of 29.5 MB of state and 21.8 MB of "
    "weights") {
  const ModelSizes m({}, DType::bf16);
  LayerActivity layer = activity_of(1, 8192, 7209, 1638);  // densities 0.25, 0.44, 0.05
  const std::vector<LayerActivity> one{layer};
  const Work work = decode_work(m, one, 1, 2);
  CHECK(work.bytes == doctest::Approx(29.5e6).epsilon(0.01));
  const double ends = 256 * 256 * 2;
  CHECK(work.cached - ends == doctest::Approx(16.8e6 + 4.2e6 + 0.8e6).epsilon(0.01));
  CHECK(decode_work(m, one, 1, 1).bytes == doctest::Approx(work.bytes / 2));
  CHECK(uncached(work).bytes == work.bytes + work.cached);
  CHECK(uncached(work).cached == 0);
}

TEST_CASE("bench work: a step's kernels") {
  const ModelSizes m(kSmall, DType::f32);  // H N 12 rows of 4: 48 numbers a matrix
  const Densities active = densities_of(activity_of(2, 12, 6, 6), m);
  CHECK(active.n == 0.5);
  CHECK(active.pairs == 0.5);
  CHECK(active.g == 0.25);
  const Work attention = attention_decode_work(m, active, 2);
  CHECK(attention.bytes == 2 * 2 * 24 * 4);  // read and written, two sequences, half of 48 floats
  CHECK(attention.cached == 48 * 4);
  CHECK(attention.flops == 2 * 2 * 48 * (1 + 0.5 + 0.5));
  CHECK(attention_rows_work(m, active, 2).bytes == attention.bytes);
  CHECK(attention_rows_work(m, active, 2).flops == 2 * 2 * 48 * (0.5 + 0.5));
  CHECK(draw_work(m, 3).cached == 3 * 10 * 4);
  const Work gate = gate_decode_work(m, active, 2);
  CHECK(gate.bytes == 0);
  CHECK(gate.cached == 48 * 4 * (0.75 + 0.4375));
  CHECK(gate.flops == 2 * 2 * 48 * 0.75);
  CHECK(wanted_by_any(0.5, 1) == 0.5);
  CHECK(wanted_by_any(0, 64) == 0);
  CHECK(wanted_by_any(1, 64) == 1);
}

TEST_CASE("bench work: a path of decoding is its kernels in every layer, and logits") {
  const ModelSizes m(kSmall, DType::bf16);
  const LayerActivity layer = activity_of(3, 20, 10, 9);
  const std::vector<LayerActivity> layers{layer, layer};
  const Densities active = densities_of(layer, m);
  const Work step = attention_decode_work(m, active, 3) + gate_decode_work(m, active, 3);
  const Work path = decode_work(m, layers, 3, 2);
  CHECK(path.bytes == doctest::Approx(2 * step.bytes));
  CHECK(path.cached == doctest::Approx(2 * step.cached + 10 * 4 * 2));
  CHECK(path.flops == doctest::Approx(2 * step.flops + 2 * 3 * 10 * 4));
  CHECK(path.tokens == 3);
}

TEST_CASE("bench work: a chunk's kernels") {
  const ModelSizes m(kSmall, DType::bf16);
  const PrefillShape shape{2, 5, 2};  // 10 rows
  CHECK(encode_prefill_work(m, shape).flops == 2 * 10 * 48);
  CHECK(encode_prefill_work(m, shape).bytes == 2 * 10 * 12 * 2);
  CHECK(gate_prefill_work(m, shape).flops == 4 * 10 * 48);
  // 10 causal pairs in each segment: scores over N in both heads, their use over D; readout and update.
  CHECK(attention_prefill_work(m, shape).flops == 2 * 20 * 12 + 2 * 20 * 2 * 4 + 4 * 10 * 48);
  CHECK(attention_prefill_work(m, shape).bytes == 10 * 12 * 2 + 2 * 2 * 48 * 4);
  CHECK(logits_work(m, 3).flops == 2 * 3 * 4 * 10);
  CHECK(embed_work(m, 3, 2).cached == 3 * 4 * (2 + 4 + 2));
}

TEST_CASE(
    "bench work: a prompt is the chunk's kernels, but for what the first chunk has nothing to read out of") {
  const ModelSizes m(kSmall, DType::bf16);
  const Work two = prefill_work(m, 10, 5, 1, true);
  const PrefillShape shape{1, 5, 2};
  const double layer = encode_prefill_work(m, shape).flops + attention_prefill_work(m, shape).flops +
                       gate_prefill_work(m, shape).flops;
  CHECK(two.flops == 2 * (2 * layer - 2 * 5 * 48) + 2 * 4 * 10);
  CHECK(two.bytes == 2 * 3 * 48 * 4);  // S written twice and read once in each layer
  CHECK(two.tokens == 10);
  CHECK(prefill_work(m, 7, 5, 1, true).flops < two.flops);
  CHECK(prefill_work(m, 10, 5, 1, false).bytes == 0);
}

TEST_CASE("bench work: a step of training is two passes forwards but for the decoder's, and the gradients") {
  const ModelSizes m(kSmall, DType::f32);
  const Work one = training_work(m, 1, 5), two = training_work(m, 2, 5);
  // 10 causal pairs; 5 rows of a layer with 48 numbers in each matrix, N 12 in two heads of D 4.
  const double attention = 2 * (2 * 10 * 12 + 2 * 10 * 2 * 4) + 4 * 10 * (12 + 2 * 4);
  CHECK(one.flops == 2 * (11 * 2 * 5 * 48 + attention) + 3 * 2 * 5 * 4 * 10);
  CHECK(two.flops == 2 * one.flops);
  CHECK(two.bytes == one.bytes);
  CHECK(two.tokens == 10);
}

TEST_CASE("bench work: means") {
  const std::vector<Work> works{{.bytes = 2, .flops = 4}, {.bytes = 4, .cached = 6}};
  CHECK(mean(works).bytes == 3);
  CHECK(mean(works).cached == 3);
  CHECK(mean(works).flops == 2);
  CHECK(mean({}).bytes == 0);
}

TEST_CASE("bench options: shapes") {
  CHECK(config_of_shape("default").neurons_per_head() == 8192);
  CHECK(config_of_shape("").n_layer == 6);
  const Config config = config_of_shape("3x64x2x8");
  CHECK(config.n_layer == 3);
  CHECK(config.n_embd == 64);
  CHECK(config.n_head == 2);
  CHECK(config.mlp_internal_dim_multiplier == 8);
  CHECK(config_of_shape("small").n_embd < 256);
  for (const char* wrong : {"6x256x4", "6x256x4x128x2", "6x256x4x", "ax2x3x4", "6,256,4,128", "tall",
                            "0x4x2x2", "-1x4x2x2", "trained", "99999999999999999999x1x1x1", "6x256x4x128 "})
    CHECK_THROWS_AS(config_of_shape(wrong), Error);
}

TEST_CASE("bench options: what cannot be is an error") {
  const auto checked = [](auto&& change) {
    Options options;
    change(options);
    check(options);
  };
  CHECK_NOTHROW(checked([](Options&) {}));
  CHECK_THROWS_AS(checked([](Options& o) { o.shape = "trained"; }), Error);
  CHECK_NOTHROW(checked([](Options& o) { o.shape = "trained", o.model = "somewhere"; }));
  CHECK_THROWS_AS(checked([](Options& o) { o.dtype = "f8"; }), Error);
  CHECK_THROWS_AS(checked([](Options& o) { o.filter = "(["; }), Error);
  CHECK_THROWS_AS(checked([](Options& o) { o.batch = -1; }), Error);
}

TEST_CASE("bench options: what is wanted") {
  Options options;
  const Case kernel{.name = "attention_step", .shape = "default", .dtype = "bf16"};
  CHECK(Wanted(options)(kernel));
  options.filter = "attention.*bf16";
  CHECK(Wanted(options)(kernel));
  options.dtype = "f32";
  CHECK_FALSE(Wanted(options)(kernel));
  options.dtype = "";
  options.filter = "gate";
  CHECK_FALSE(Wanted(options)(kernel));
  CHECK(wants_random(options));
  CHECK_FALSE(wants_trained(options));
  options.model = "m";
  CHECK(wants_trained(options));
  options.shape = "small";
  CHECK_FALSE(wants_trained(options));
  options.shape = "trained";
  CHECK(wants_trained(options));
  CHECK_FALSE(wants_random(options));
}
