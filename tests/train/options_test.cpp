// TrainOptions: JSON and back, flags' texts, and what is refused.
#include "bdh/train/options.h"

#include <doctest/doctest.h>

#include <limits>
#include <set>

#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

Thrown setting(const char* json) {
  return thrown_by([&] { TrainOptions().set(Json::parse(json, "run.json"), "run.json"); });
}

const TrainOption& named(std::string_view name) {
  for (const TrainOption& option : train_options())
    if (option.name == name) return option;
  throw std::runtime_error("no such option");
}

}  // namespace

TEST_CASE("the defaults of training options are the authors' recipe at a constant rate") {
  const Json json = TrainOptions().to_json();
  CHECK(json.find("lr")->as_number() == 1e-3);
  CHECK(json.find("schedule")->as_string() == "constant");
  CHECK(json.find("weight_decay")->as_number() == 0.1);
  CHECK(json.find("dtype")->as_string() == "float32");
  for (const char* off : {"clip", "skip_outliers", "ema", "warmup"}) CHECK(json.find(off)->as_number() == 0);
  CHECK(json.find("dropout")->is_null());
  CHECK(json.as_object().size() == train_options().size());
  TrainOptions().validate();
}

TEST_CASE("training options survive JSON, every one of them") {
  TrainOptions options;
  options.set(
      Json::parse(R"({"steps": 7, "batch": 2, "block": 16, "accumulate": 3, "seed": 9, "dtype": "bf16",
      "form": "chunked", "chunk": 64, "dropout": 0.25, "horizon": [12, "inf"], "carry_state": true, "lr": 0.01,
      "final_lr": 0.001, "schedule": "wsd", "warmup": 5, "decay_share": 0.5, "beta1": 0.8, "beta2": 0.95,
      "epsilon": 1e-6, "weight_decay": 0.2, "no_decay": ["embed.weight", "lm_head"], "clip": 1,
      "skip_outliers": 6, "ema": 0.99, "lora": true, "lora_rank": 4, "lora_alpha": 12.5,
      "lora_targets": ["lm_head"], "lora_rslora": true, "lora_dropout": 0, "validation_share": 0.2, "valid_every": 10, "valid_tokens": 1000,
      "metric": "ema_valid_loss", "greater_is_better": true, "patience": 4, "sample_every": 11,
      "sample_prompt": "To be", "sample_tokens": 12, "checkpoint_every": 13, "checkpoint_epochs": 2,
      "latest_every": 14, "save_total_limit": 5, "save_top": 2})",
                  "run.json"),
      "run.json");
  const Json json = options.to_json(), defaults = TrainOptions().to_json();
  for (const auto& field : json.as_object()) {
    CAPTURE(field.first);
    CHECK((field.first == "lora_dropout") == (field.second == *defaults.find(field.first)));
  }
  TrainOptions again;
  again.set(Json::parse(json.dump(2), "run.json"), "run.json");
  CHECK(again.to_json() == json);
  CHECK(again.horizon == std::vector<float>{12, std::numeric_limits<float>::infinity()});
  CHECK(again.schedule.shape == ScheduleShape::warmup_stable_decay);
  CHECK(again.dtype == DType::bf16);
  CHECK(again.no_decay.size() == 2);
}

TEST_CASE("a training option that makes no sense is refused by name") {
  CHECK(setting(R"({"stepps": 3})").says("run.json: 'stepps' is no training option"));
  CHECK(setting(R"({"steps": 0})").says("run.json: steps must be a positive whole number, not 0"));
  CHECK(setting(R"({"steps": "many"})").says("steps must be a positive whole number"));
  CHECK(setting(R"({"seed": -1})").says("seed must be a whole number from 0"));
  CHECK(setting(R"({"dropout": 1})").says("dropout must be in [0, 1)"));
  CHECK(setting(R"({"lr": NaN})").says("lr must be 0 or a positive number"));
  CHECK(setting(R"({"lr": Infinity})").says("lr must be"));
  CHECK(setting(R"({"dtype": "float64"})").says("dtype must be float32, bfloat16 or float16"));
  CHECK(setting(R"({"form": "recurrent"})").says("form must be auto, parallel or chunked"));
  CHECK(setting(R"({"metric": "accuracy"})").says("metric must be valid_loss"));
  CHECK(setting(R"({"no_decay": "lm_head"})").says("no_decay must be names"));
  CHECK(setting(R"({"horizon": -3})").says("horizon must be tokens"));
  CHECK(setting(R"({"lora_dropout": 0.1})").says("lora_dropout must be 0, because the adapter is merged"));
  CHECK(setting(R"({"lora_rank": 0})").says("lora_rank must be a whole number from 1 to 65536"));
  CHECK(setting(R"({"use_dora": true})").says("run.json: 'use_dora' is no training option"));
  CHECK(setting(R"({"rank_pattern": {}})").says("run.json: 'rank_pattern' is no training option"));
  CHECK(setting("[]").kind == ErrorKind::bad_file);
  TrainOptions options;
  options.metric = "ema_valid_loss";
  CHECK(thrown_by([&] { options.validate(); }).says("needs an average"));
  options = {};
  options.beta2 = 1;
  CHECK(thrown_by([&] { options.validate(); }).says("beta2 must be in [0, 1)"));
  options = {};
  options.lora.rank = 4;
  CHECK(thrown_by([&] { options.validate(); }).says("set lora to train one"));
}

TEST_CASE("the text of a training flag means what JSON says") {
  CHECK(named("steps").parse("1e3") == Json(int64_t{1000}));
  CHECK(named("lr").parse("1e-3") == Json(1e-3));
  CHECK(named("dropout").parse("0") == Json(0.0));
  CHECK(named("carry_state").parse("true") == Json(true));
  CHECK(named("no_decay").parse("a,b").as_array().size() == 2);
  CHECK(named("horizon").parse("none").is_null());
  CHECK(named("schedule").parse("cosine") == Json("cosine"));
  CHECK(named("sample_prompt").parse("a,b") == Json("a,b"));
  CHECK(thrown_by([] {
          (void)named("steps").parse("three");
        }).says("steps must be a positive whole number, not 'three'"));
  CHECK(thrown_by([] { (void)named("lr").parse("-1"); }).says("lr must be 0 or a positive number"));
  CHECK(thrown_by([] { (void)named("lr").parse(""); }).kind == ErrorKind::invalid_argument);
  CHECK(thrown_by([] { (void)named("schedule").parse("wavy"); }).says("schedule must be constant"));
  CHECK(thrown_by([] { (void)named("carry_state").parse("yes"); }).says("true or false"));
}

TEST_CASE("a run that goes on keeps what decides its function") {
  std::set<std::string_view> fixed;
  for (const TrainOption& option : train_options())
    if (option.fixed) fixed.insert(option.name);
  CHECK(fixed == std::set<std::string_view>{"batch", "block", "accumulate", "seed", "dtype", "dropout",
                                            "horizon", "carry_state", "lora", "lora_rank", "lora_alpha",
                                            "lora_targets", "lora_rslora", "lora_dropout"});
}
