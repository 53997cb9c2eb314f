// Statistics, tables, JSON and pictures of the benchmarks, from figures that are made up.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "bdh/base/error.h"
#include "bench/chart.h"
#include "bench/report.h"
#include "tests/support/temporary.h"

using namespace bdh;
using namespace bdh::bench;
using bdh::test::TemporaryDirectory;

namespace {

Result made_up(Kind kind, const std::string& name, const std::string& variant, double seconds,
               const Work& work) {
  Result result;
  result.of.kind = kind;
  result.of.name = name;
  result.of.shape = "made-up <model>";
  result.of.dtype = "bf16";
  result.of.variant = variant;
  result.work = work;
  result.samples = {seconds, seconds * 1.1, seconds * 0.9};
  return result;
}

// A kernel in two variants, a path with a peer, and a case that failed.
std::vector<Result> made_up_results() {
  std::vector<Result> results{
      made_up(Kind::limit, "memory", "", 1e-3, {.bytes = 2e9}),
      made_up(Kind::kernel, "imaginary_kernel", "bdh", 1e-5, {.bytes = 1e7, .cached = 1e7, .flops = 4e9}),
      made_up(Kind::kernel, "imaginary_kernel", "cuBLAS", 2e-5, {.bytes = 1e7, .cached = 1e7, .flops = 4e9}),
      made_up(Kind::path, "decode at 7", "", 1e-4, {.bytes = 1e8, .flops = 1e8, .tokens = 1}),
      made_up(Kind::peer, "Imaginary peer", "", 3e-4, {.tokens = 1}),
      made_up(Kind::peer, "Imaginary peer", "", 9e-4, {.tokens = 1})};
  results[3].of.peers = {"Imaginary peer", "absent peer"};
  results[3].details = {{"memory_before", 17}};
  results[5].of.dtype = "f32";  // another dtype's peer is no peer
  results.push_back(made_up(Kind::kernel, "broken_kernel", "bdh", 1, {}));
  results.back().samples.clear();
  results.back().error = "broke";
  return results;
}

Report made_up_report() {
  Report report;
  report.device = "Imaginary device & co";
  report.heading = {"Imaginary device, 3 units"};
  report.date = "2001-02-03 04:05 UTC";
  report.peer = "none";
  report.notes = {"A note."};
  report.roofs = {{"memory", false, 2e12}, {"L2 cache", false, 5e12}, {"product bf16", true, 8e14}};
  report.rows = rows_of(made_up_results(), [](const Result& result) {
    return result.of.kind == Kind::path ? Bound{5e-5, "memory", 9e-5} : Bound{4e-6, "product bf16"};
  });
  return report;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("bench: median and spread") {
  Result result;
  CHECK(result.median() == 0);
  CHECK(result.spread() == 0);
  result.samples = {4, 1, 2};
  CHECK(result.median() == 2);
  result.samples = {4, 1, 2, 3};
  CHECK(result.median() == 2.5);
  result.samples = {1, 3};
  CHECK(result.spread() == doctest::Approx(std::sqrt(2.0) / 2));
}

TEST_CASE("bench: rows have a share of their limit, and peers of their dtype") {
  const Report report = made_up_report();
  CHECK(report.rows[1].share == doctest::Approx(0.4));
  CHECK(report.rows[2].share == doctest::Approx(0.2));
  CHECK(report.rows[3].share == doctest::Approx(0.5));
  CHECK(report.rows[3].usual_share == doctest::Approx(0.9));
  CHECK(report.rows[1].usual_share == 0);
  REQUIRE(report.rows[3].peers.size() == 1);
  CHECK(report.rows[3].peers[0].second == doctest::Approx(3));
  CHECK(report.rows[0].share == 0);
  CHECK(report.rows[6].share == 0);
}

TEST_CASE("bench: tables name variants, rates, ratios and what failed") {
  const std::string table = table_of(made_up_report());
  CHECK(contains(table, "Imaginary device, 3 units"));
  CHECK(contains(table, "400 TFLOP/s"));  // 4e9 flops in 10 us
  CHECK(contains(table, "2.00 TB/s"));    // both kinds of bytes
  CHECK(contains(table, "2.00x"));        // cuBLAS takes twice as long
  CHECK(contains(table, "Imaginary peer 3.00x"));
  CHECK(contains(table, "50 %        90 %"));
  CHECK(contains(table, "not measured: broken_kernel"));
  CHECK(contains(table, "A note."));
}

TEST_CASE("bench: a share above 105 % is an error, in the table, in the JSON and of the run") {
  Report report = made_up_report();
  CHECK(impossible_shares(report).empty());
  CHECK_NOTHROW(require_possible(report));
  CHECK_FALSE(contains(table_of(report), "impossible"));
  report.rows[3].share = 1.04;
  CHECK_NOTHROW(require_possible(report));
  report.rows[1].share = 1.06;
  report.rows[1].result.work.zeros = report.rows[1].result.work.flops / 3;  // zeros that may be skipped
  CHECK_NOTHROW(require_possible(report));
  report.rows[1].result.work.zeros = 0;
  report.rows[3].share = 2.32;
  const std::string line = "decode_at_7/made-up_<model>/bf16: 232 % of its limit (memory)";
  REQUIRE(impossible_shares(report).size() == 2);
  CHECK(contains(impossible_shares(report)[1], line));
  CHECK(contains(table_of(report), "impossible: " + line));
  CHECK_THROWS_WITH_AS(require_possible(report), doctest::Contains("imaginary_kernel"), Error);
  CHECK_THROWS_WITH_AS(require_possible(report), doctest::Contains("and 1 more"), Error);
  const Json json = json_of(report);
  CHECK(contains(json.find("results")->as_array()[3].find("error")->as_string(), "232 %"));
  CHECK(json.find("results")->as_array()[2].find("error") == nullptr);
}

TEST_CASE("bench: JSON has the share by medians where there is one") {
  const Json json = json_of(made_up_report());
  const auto share = [&](size_t row) {
    return json.find("results")->as_array()[row].find("share_by_medians");
  };
  REQUIRE(share(3) != nullptr);
  CHECK(share(3)->as_number() == doctest::Approx(0.9));
  CHECK(share(1) == nullptr);
}

TEST_CASE("bench: the JSON keeps every repetition and reads back") {
  const Json json = Json::parse(json_of(made_up_report()).dump(1), "results.json");
  const Json& kernel = json.find("results")->as_array()[1];
  CHECK(kernel.find("seconds")->as_array().size() == 3);
  CHECK(kernel.find("seconds")->as_array()[1].as_number() == doctest::Approx(1.1e-5));
  CHECK(kernel.find("cached_bytes")->as_number() == 1e7);
  CHECK(kernel.find("variant")->as_string() == "bdh");
  CHECK(kernel.find("limit_by")->as_string() == "product bf16");
  CHECK(json.find("results")->as_array()[3].find("memory_before")->as_integer() == 17);
  CHECK(json.find("results")->as_array()[6].find("error")->as_string() == "broke");
  CHECK(json.find("roofs")->as_array().size() == 3);
  CHECK(json.find("device")->as_string() == "Imaginary device & co");
}

TEST_CASE("bench: pictures show each kernel once, paths, roofs and the device") {
  const Json json = json_of(made_up_report());
  const std::string bars = bar_chart(json), roofline = roofline_chart(json);
  for (const std::string& picture : {bars, roofline}) {
    CHECK(picture.rfind("<svg", 0) == 0);
    CHECK(contains(picture, "</svg>"));
    CHECK(contains(picture, "Imaginary device &amp; co"));
    CHECK(count_of(picture, "imaginary_kernel, made-up &lt;model&gt;, bf16") == 1);
    CHECK(contains(picture, "decode at 7"));
    CHECK_FALSE(contains(picture, "broken_kernel"));
    CHECK_FALSE(contains(picture, "nan"));
    CHECK_FALSE(contains(picture, "inf"));
  }
  CHECK(contains(bars, "PyTorch x 3.00"));
  CHECK(contains(roofline, "product bf16, 800 TFLOP/s"));
  CHECK(contains(roofline, "memory, 2.00 TB/s"));
}

TEST_CASE("bench: the headline has eight paths, each model and dtype once, on all threads") {
  std::vector<Result> results;
  const auto add = [&](const std::string& name, const std::string& shape, const char* dtype, int threads) {
    Result& result = results.emplace_back();
    result.of = {.kind = Kind::path, .name = name, .shape = shape, .dtype = dtype, .threads = threads};
    result.work = {.bytes = 1, .tokens = 1};
    result.samples = {1, 1, 1};
  };
  add("decode at 7", "small", "f32", 2);
  add("decode at 7", "small, 4 sequences", "f32", 2);
  add("decode at 8", "small", "f16", 2);
  add("decode at 9", "small", "f32", 1);
  for (int i = 10; i < 20; ++i) add(concat("prefill ", i), "small, chunks of 4", "bf16", 2);
  Report report;
  report.rows = rows_of(results, [](const Result&) { return Bound{0.5, "memory"}; });
  const std::string headline = headline_chart(json_of(report));
  CHECK(count_of(headline, "decode at 7, small, f32, 2 threads") == 1);
  CHECK(count_of(headline, "decode at ") == 1);
  CHECK(count_of(headline, "prefill ") == 7);
}

TEST_CASE("bench: pictures of nothing are pictures, of other JSON an error") {
  Report empty;
  CHECK(contains(bar_chart(json_of(empty)), "</svg>"));
  CHECK(contains(headline_chart(json_of(empty)), "</svg>"));
  CHECK(contains(roofline_chart(json_of(empty)), "</svg>"));
  CHECK_THROWS_AS(bar_chart(Json::parse("{}", "x")), Error);
  CHECK_THROWS_AS(roofline_chart(Json::parse("{\"results\": 3}", "x")), Error);
}

TEST_CASE("bench: charts go into a directory, or beside a name") {
  const TemporaryDirectory directory;
  const Json json = json_of(made_up_report());
  write_charts(json, directory / "charts");
  write_charts(json, directory / "one.svg");
  for (const char* name : {"charts/bars.svg", "charts/headline.svg", "charts/roofline.svg", "one.svg",
                           "one-headline.svg", "one-roofline.svg"})
    CHECK(bdh::test::read_file(directory / name).rfind("<svg", 0) == 0);
}
