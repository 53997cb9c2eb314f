// generation_config.json: defaults, what is kept, and errors that name file and key.
#include "bdh/text/generation_config.h"

#include <doctest/doctest.h>

#include "bdh/base/error.h"

using namespace bdh;

namespace {

GenerationConfig parse(const char* text) {
  return GenerationConfig::from_json(Json::parse(text, "g.json"), "g.json");
}

std::string failure(const char* text) {
  try {
    parse(text);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "";
}

bool names(const std::string& message, const char* key) {
  CAPTURE(message);
  return message.find("g.json: ") == 0 && message.find(key) != std::string::npos;
}

}  // namespace

TEST_CASE("an empty generation config holds the defaults") {
  const GenerationConfig config = parse("{}");
  CHECK(config.max_new_tokens == 100);
  CHECK(config.sampling.temperature == 0.8f);
  CHECK(config.sampling.top_k == 50);
  CHECK(config.sampling.top_p == 0.95f);
  CHECK(config.sampling.do_sample);
  CHECK(config.sampling.repetition_penalty == 1.0f);
  CHECK(!config.seed_given);
  CHECK(config.stop.empty());
}

TEST_CASE("the defaults are written as people write them") {
  CHECK(
      GenerationConfig().to_json().dump() ==
      Json::parse(R"({"max_new_tokens":100,"temperature":0.8,"top_k":50,"top_p":0.95,"do_sample":true})", "")
          .dump());
}

TEST_CASE("every key is read, unknown ones are kept, and all are written again") {
  const char* text =
      R"({"max_new_tokens":7,"temperature":0.3,"top_k":0,"top_p":1.0,"do_sample":false,"repetition_penalty":1.2,)"
      R"("seed":18446744073709551615,"stop_strings":["\n\n","é"],"eos_token_id":[1,2],"_from_model_config":null})";
  const GenerationConfig config = parse(text);
  CHECK(config.max_new_tokens == 7);
  CHECK(config.sampling.temperature == 0.3f);
  CHECK(config.sampling.top_k == 0);
  CHECK(config.sampling.top_p == 1.0f);
  CHECK(!config.sampling.do_sample);
  CHECK(config.sampling.repetition_penalty == 1.2f);
  CHECK(config.seed_given);
  CHECK(config.sampling.seed == 18446744073709551615u);
  CHECK(config.stop == std::vector<std::string>{"\n\n", "é"});
  CHECK(config.eos == std::vector<int64_t>{1, 2});
  REQUIRE(config.extra.size() == 1);
  CHECK(config.extra[0].first == "_from_model_config");
  CHECK(config.to_json().dump() == Json::parse(text, "").dump());
}

TEST_CASE("null means the default, whole numbers may be written as floats") {
  const GenerationConfig config =
      parse(R"({"temperature":null,"top_k":null,"seed":null,"stop":null,"max_new_tokens":20.0,"top_p":1})");
  CHECK(config.sampling.temperature == 0.8f);
  CHECK(config.sampling.top_k == 50);
  CHECK(!config.seed_given);
  CHECK(config.stop.empty());
  CHECK(config.extra.empty());
  CHECK(config.max_new_tokens == 20);
  CHECK(config.sampling.top_p == 1.0f);
}

TEST_CASE("stop may be one string or several, under both names") {
  CHECK(parse(R"({"stop":"."})").stop == std::vector<std::string>{"."});
  CHECK(parse(R"({"stop":["a","b"],"stop_strings":"c"})").stop == std::vector<std::string>{"a", "b", "c"});
}

TEST_CASE("eos_token_id may be one token, several, or none") {
  CHECK(parse(R"({"eos_token_id":7})").eos == std::vector<int64_t>{7});
  CHECK(parse(R"({"eos_token_id":7})").to_json().find("eos_token_id")->dump() == "7");
  CHECK(parse(R"({"eos_token_id":[9,7]})").eos == std::vector<int64_t>{9, 7});
  CHECK(parse(R"({"eos_token_id":null})").eos.empty());
  CHECK(parse(R"({"eos_token_id":[]})").eos.empty());
  CHECK(parse("{}").to_json().find("eos_token_id") == nullptr);
}

TEST_CASE("an eos_token_id outside the vocabulary is told") {
  CHECK(parse(R"({"eos_token_id":[0,16]})").useless_options(17).empty());
  CHECK(parse(R"({"eos_token_id":[0,17]})").useless_options(17) ==
        "eos_token_id 17 ends no text: the model's vocab_size is 17");
  CHECK(!parse(R"({"eos_token_id":-1})").useless_options(17).empty());
}

TEST_CASE("wrong types and ranges name the file and the key") {
  CHECK(names(failure(R"({"max_new_tokens":"ten"})"), "max_new_tokens"));
  CHECK(names(failure(R"({"max_new_tokens":1.5})"), "max_new_tokens"));
  CHECK(names(failure(R"({"max_new_tokens":-1})"), "max_new_tokens"));
  CHECK(names(failure(R"({"temperature":-0.1})"), "temperature"));
  CHECK(names(failure(R"({"temperature":1e60})"), "temperature"));
  CHECK(names(failure(R"({"temperature":true})"), "temperature"));
  CHECK(names(failure(R"({"top_k":-1})"), "top_k"));
  CHECK(names(failure(R"({"top_p":1.01})"), "top_p"));
  CHECK(names(failure(R"({"do_sample":1})"), "do_sample"));
  CHECK(names(failure(R"({"repetition_penalty":0})"), "repetition_penalty"));
  CHECK(names(failure(R"({"seed":-1})"), "seed"));
  CHECK(names(failure(R"({"seed":"7"})"), "seed"));
  CHECK(names(failure(R"({"stop_strings":[1]})"), "stop_strings"));
  CHECK(names(failure(R"({"stop_strings":[""]})"), "stop strings"));
  CHECK(names(failure(R"({"eos_token_id":"</s>"})"), "eos_token_id"));
  CHECK(names(failure(R"({"eos_token_id":[1,true]})"), "eos_token_id"));
  CHECK(names(failure(R"([1])"), "object"));
  CHECK(failure("{}").empty());
}
