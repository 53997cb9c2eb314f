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

TEST_CASE("null is as if the key was missing, whole numbers may be written as floats") {
  const GenerationConfig config = parse(
      R"({"temperature":null,"top_k":null,"seed":null,"stop":null,"max_new_tokens":20.0,"top_p":1,)"
      R"("min_p":null,"max_length":null,"bad_words_ids":null,"do_sample":null,"num_return_sequences":null})");
  CHECK(config.sampling.temperature == 1.0f);
  CHECK(config.sampling.top_k == 50);
  CHECK(!config.sampling.do_sample);
  CHECK(!config.seed_given);
  CHECK(config.stop.empty());
  CHECK(config.extra.empty());
  CHECK(config.max_new_tokens == 20);
  CHECK(config.max_length == 0);
  CHECK(config.num_return_sequences == 1);
  CHECK(config.sampling.top_p == 1.0f);
  CHECK(parse(R"({"temperature":null,"horizon":null})").sampling == SamplingOptions());
}

TEST_CASE("what is missing is as transformers has it, except in the file that Python BDH writes") {
  for (const char* text :
       {R"({"transformers_version":"5.0.0"})", R"({"_from_model_config":true,"eos_token_id":0})",
        R"({"temperature":1,"top_k":50})", R"({"max_new_tokens":100})",
        R"({"max_new_tokens":100,"temperature":1,"top_k":50,"transformers_version":"5.0.0"})"}) {
    CAPTURE(text);
    const SamplingOptions sampling = parse(text).sampling;
    CHECK(!sampling.do_sample);
    CHECK(sampling.temperature == 1.0f);
    CHECK(sampling.top_k == 50);
    CHECK(sampling.top_p == 1.0f);
    CHECK(parse(text).max_new_tokens == 100);
  }
  const SamplingOptions sampled = parse(R"({"do_sample":true,"temperature":0.5})").sampling;
  CHECK(sampled.do_sample);
  CHECK(sampled.temperature == 0.5f);
  CHECK(sampled.top_p == 1.0f);
  for (const char* text : {R"({"max_new_tokens":30,"temperature":0.8,"top_k":50})",
                           R"({"max_new_tokens":30,"temperature":0.8,"top_k":50,"horizon":48,"seed":0})",
                           R"({"horizon":48,"stop":"."})"}) {
    CAPTURE(text);
    CHECK(parse(text).sampling == SamplingOptions());
  }
}

TEST_CASE("the options of the table are read and written") {
  const char* text =
      R"({"max_length":12,"temperature":1.0,"top_k":50,"top_p":1.0,"do_sample":true,"min_p":0.1,"typical_p":0.9,)"
      R"("epsilon_cutoff":0.01,"eta_cutoff":0.02,"min_length":3,"no_repeat_ngram_size":2,"suppress_tokens":[1,2],)"
      R"("begin_suppress_tokens":[3],"bad_words_ids":[[4],[5,6]],"num_return_sequences":3})";
  const GenerationConfig config = parse(text);
  CHECK(config.max_length == 12);
  CHECK(config.sampling.min_p == 0.1f);
  CHECK(config.sampling.typical_p == 0.9f);
  CHECK(config.min_length == 3);
  CHECK(config.no_repeat_ngram_size == 2);
  CHECK(config.suppress_tokens == std::vector<int64_t>{1, 2});
  CHECK(config.begin_suppress_tokens == std::vector<int64_t>{3});
  CHECK(config.bad_words_ids == std::vector<std::vector<int64_t>>{{4}, {5, 6}});
  CHECK(config.num_return_sequences == 3);
  Json written = config.to_json();
  Json wanted = Json::parse(text, "");
  CHECK(written.as_object().size() == wanted.as_object().size());
  for (const Json::Member& member : wanted.as_object()) {
    CAPTURE(member.first);
    REQUIRE(written.find(member.first));
    CHECK(written.find(member.first)->dump() == member.second.dump());
  }
}

TEST_CASE("new tokens go before lengths, and max_length counts the prompt") {
  CHECK(parse(R"({"max_length":12})").room_after(5) == 7);
  CHECK(parse(R"({"max_length":12,"max_new_tokens":30})").room_after(50) == 30);
  CHECK(parse(R"({"min_length":12,"min_new_tokens":0})").min_length == 0);
  CHECK_THROWS_WITH_AS(parse(R"({"max_length":12})").room_after(12),
                       "the prompt has 12 tokens, and max_length 12 counts prompt and text together; raise "
                       "it, or set max_new_tokens",
                       Error);
}

TEST_CASE("what transformers would do and bdh does not is refused where it changes the text, else told") {
  const auto refusal = [](const char* text) -> std::string {
    try {
      parse(text).require_possible(256);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(refusal(R"({"num_beams":4})") ==
        "generation_config.json: num_beams 4: bdh has no beam search; remove it there, or go without it "
        "(--ignore num_beams)");
  for (const char* text :
       {R"({"guidance_scale":1.5})", R"({"penalty_alpha":0.6})", R"({"force_words_ids":[[1]]})",
        R"({"sequence_bias":[[[1],2.0]]})", R"({"forced_eos_token_id":3})",
        R"({"encoder_repetition_penalty":1.1})", R"({"watermarking_config":{}})", R"({"top_h":0.5})",
        R"({"bad_words_ids":[[1,256]]})", R"({"num_return_sequences":2})", R"({"num_beams":"many"})"}) {
    CAPTURE(text);
    CHECK(!refusal(text).empty());
  }
  for (const char* text :
       {R"({"num_beams":1,"num_beam_groups":1,"guidance_scale":1.0,"penalty_alpha":0})",
        R"({"force_words_ids":null,"forced_bos_token_id":null,"max_time":3,"use_cache":true})",
        R"({"do_sample":true,"num_return_sequences":2,"bad_words_ids":[[255]]})"}) {
    CAPTURE(text);
    CHECK(refusal(text).empty());
  }
  const auto told = parse(R"({"max_time":3,"early_stopping":false,"length_penalty":2})").useless_options(9);
  CHECK(told == std::vector<std::string>{"max_time 3 has no effect: bdh has no time limit",
                                         "length_penalty 2 has no effect: it is for beam search"});
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

TEST_CASE("tokens outside the vocabulary are told") {
  CHECK(parse(R"({"eos_token_id":[0,16]})").useless_options(17).empty());
  CHECK(
      parse(R"({"eos_token_id":[0,17],"suppress_tokens":[-1],"begin_suppress_tokens":[17,18]})")
          .useless_options(17) ==
      std::vector<std::string>{"eos_token_id 17 ends no text: the model's vocab_size is 17",
                               "suppress_tokens -1 suppresses nothing: the model's vocab_size is 17",
                               "begin_suppress_tokens 17 suppresses nothing: the model's vocab_size is 17"});
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
  CHECK(names(failure(R"({"min_p":1.5})"), "min_p"));
  CHECK(names(failure(R"({"typical_p":0})"), "typical_p"));
  CHECK(names(failure(R"({"no_repeat_ngram_size":-1})"), "no_repeat_ngram_size"));
  CHECK(names(failure(R"({"num_return_sequences":0})"), "num_return_sequences"));
  CHECK(names(failure(R"({"num_return_sequences":5000})"), "num_return_sequences"));
  CHECK(names(failure(R"({"max_length":-1})"), "max_length"));
  CHECK(names(failure(R"({"suppress_tokens":3})"), "suppress_tokens"));
  CHECK(names(failure(R"({"suppress_tokens":[0.5]})"), "suppress_tokens"));
  CHECK(names(failure(R"({"bad_words_ids":[]})"), "bad_words_ids"));
  CHECK(names(failure(R"({"bad_words_ids":[[]]})"), "bad_words_ids"));
  CHECK(names(failure(R"({"bad_words_ids":[1]})"), "bad_words_ids"));
  CHECK(names(failure(R"({"bad_words_ids":[[-1]]})"), "bad_words_ids"));
  CHECK(names(failure(R"([1])"), "object"));
  CHECK(failure("{}").empty());
}
