// `bdh adapter`, and --adapter: what is shown, merged and refused. Runs the built program.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/weight_files.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"

namespace {

namespace fs = std::filesystem;
using namespace bdh;
using test::check_failure;
using test::json_of;
using test::output_of;
using test::run_command;

const std::string kBase = (fs::path(test::kTestData) / "adapters" / "tied").string(),
                  kAdapter = (fs::path(test::kTestData) / "adapters" / "matrices").string();

std::vector<float> logits_of(const test::TemporaryDirectory& directory, const std::string& model,
                             const std::vector<std::string>& more) {
  const std::string out = (directory / "logits.safetensors").string();
  std::vector<std::string> words{"logits", model, "--tokens", "3,1,4,1,5", "--out", out, "--dtype", "f32"};
  words.insert(words.end(), more.begin(), more.end());
  output_of(run_command(words));
  return test::values<float>(open_weights_file(out).state_dict().at("logits"));
}

}  // namespace

TEST_CASE("bdh adapter inspect: each parameter's rank, scale and numbers") {
  const Json told = json_of(run_command({"adapter", "inspect", kBase, kAdapter, "--json"}));
  const Json::Array& updates = told.find("updates")->as_array();
  REQUIRE(updates.size() == 4);
  CHECK(updates[0].find("parameter")->as_string() == "decoder");
  CHECK(updates[0].find("rank")->as_integer() == 2);
  CHECK(updates[0].find("scale")->as_number() == 3);
  CHECK(updates[0].find("numbers")->as_integer() == 2 * (32 + 8));
  CHECK(told.find("numbers")->as_integer() == 80 + 2 * 96 + 54);
  const std::string text = output_of(run_command({"adapter", "inspect", kBase, kAdapter}));
  CHECK(text.find("encoder_v      rank 2     scale 3") != std::string::npos);
  CHECK(text.find("together") != std::string::npos);
}

TEST_CASE("bdh adapter merge: what --adapter gives, the base as it was, and half of it") {
  const test::TemporaryDirectory directory;
  const std::string out = (directory / "merged").string();
  const std::string before = test::read_file(kBase + "/model.safetensors");
  for (const std::string scale : {"1", "0.5", "-2e0"}) {
    CAPTURE(scale);
    CHECK(output_of(run_command({"adapter", "merge", kBase, kAdapter, out, "--scale", scale, "--overwrite"}))
              .empty());
    const std::vector<float> applied =
        logits_of(directory, kBase, {"--adapter", concat(kAdapter, ":", scale)});
    CHECK(applied != logits_of(directory, kBase, {}));
    CHECK(logits_of(directory, out, {}) == applied);
  }
  CHECK(logits_of(directory, kBase, {"--adapter", kAdapter}) ==
        logits_of(directory, kBase, {"--adapter", kAdapter + ":1"}));
  CHECK(test::read_file(kBase + "/model.safetensors") == before);
}

TEST_CASE("bdh adapter extract: the adapter that was merged, and how much it holds") {
  const test::TemporaryDirectory directory;
  const std::string tuned = (directory / "tuned").string(), out = (directory / "out").string();
  output_of(run_command({"adapter", "merge", kBase, kAdapter, tuned}));
  const std::vector<std::string> words{"adapter", "extract", kBase, tuned, out, "--rank", "2"};
  const std::string told = output_of(run_command(words));
  CHECK(told.find("lm_head ") != std::string::npos);
  CHECK(told.find("the adapter holds 100.00 %") != std::string::npos);
  CHECK(test::relative_difference(logits_of(directory, kBase, {"--adapter", out}),
                                  logits_of(directory, tuned, {})) < 1e-5);
  check_failure(run_command(words), 1, "is there already");
  const Json parts =
      json_of(run_command({"adapter", "extract", kBase, tuned, out, "--rank", "1", "--overwrite", "--json"}));
  REQUIRE(parts.as_array().size() == 4);
  CHECK(parts.as_array()[0].find("held")->as_number() < 0.999);
  check_failure(run_command({"adapter", "extract", kBase, kBase, out, "--overwrite"}), 1, "the same weights");
}

TEST_CASE("bdh adapter: what cannot be done is one line, and nothing is written") {
  const test::TemporaryDirectory directory;
  const std::string out = (directory / "merged").string(), eight = (directory / "eight").string();
  check_failure(run_command({"adapter", "merge", kBase, "none", out}), 1, "none: no adapter is there");
  check_failure(run_command({"adapter", "merge", kBase, kAdapter, out, "--scale", "much"}), 2, "--scale");
  output_of(run_command({"quantize", kBase, eight, "--bits", "8"}));
  check_failure(run_command({"adapter", "merge", eight, kAdapter, out}), 1, "--dequantize");
  CHECK(!fs::exists(out));
  check_failure(run_command({"generate", kBase, "--prompt", "a", "--adapter", kBase}), 1,
                "adapter_config.json");
}
