// `bdh generate`: what goes to stdout, where prompts come from, which option wins. Runs the built program.

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/formats/safetensors.h"
#include "bdh/pretrained/model.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"

namespace {

using bdh::Json;
using bdh::test::check_failure;
using bdh::test::CommandResult;
using bdh::test::has;
using bdh::test::joined;
using bdh::test::json_of;
using bdh::test::output_of;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;
using bdh::test::write_file;
using Arguments = std::vector<std::string>;

struct GenerateRun {
  TemporaryDirectory directory;

  GenerateRun() { bdh::test::write_model(directory.path()); }

  CommandResult run(const Arguments& more, const std::string& input = {}) const {
    return run_command(joined({"generate", directory.path().string()}, more), input);
  }
  std::string text(const Arguments& more, const std::string& input = {}) const {
    return output_of(run(more, input));
  }
  Json json(Arguments more) const {
    more.push_back("--json");
    return json_of(run(more));
  }
};

int64_t tokens_in(const Json& json) { return static_cast<int64_t>(json.find("tokens")->as_array().size()); }

/// The greedy continuation, from the library.
std::string expected_text(const GenerateRun& command, const std::string& prompt, int64_t count) {
  const bdh::Model model = bdh::Model::from_pretrained(command.directory.path());
  bdh::GenerationConfig config;
  config.max_new_tokens = count;
  config.sampling.do_sample = false;
  bdh::Session session(model.weights);
  bdh::Session* pointer = &session;
  return bdh::generate({&pointer, 1}, *model.tokenizer, {&prompt, 1}, config).texts[0].text;
}

/// Where the first character at or after `at` begins.
size_t character_at(const std::string& text, size_t at) {
  while (at < text.size() && (text[at] & 0xC0) == 0x80) ++at;
  return at;
}

}  // namespace

TEST_CASE("bdh generate: stdout holds the continuation and nothing else, rates go to stderr") {
  const GenerateRun command;
  const CommandResult result = command.run({"--prompt", "hello", "-n", "12", "--greedy"});
  CHECK(result.exit_code == 0);
  CHECK(result.out == expected_text(command, "hello", 12));
  CHECK(has(result.err, "prefill 5 tokens"));
  CHECK(has(result.err, "decode 11 tokens"));
  CHECK(has(result.err, "greedy"));
}

TEST_CASE("bdh generate: prompts come from the command line, a file or standard input, byte for byte") {
  const GenerateRun command;
  const std::string prompt = "two\nlines \xFF\n";
  const std::string file = (command.directory / "prompt").string();
  write_file(file, prompt);
  const std::string expected = command.text({"--prompt", prompt, "--greedy", "-n", "8"});
  CHECK(command.text({"--prompt-file", file, "--greedy", "-n", "8"}) == expected);
  CHECK(command.text({"--prompt-file", "-", "--greedy", "-n", "8"}, prompt) == expected);
  CHECK(command.text({"-", "--greedy", "-n", "8"}, prompt) == expected);
  CHECK(expected == expected_text(command, prompt, 8));
}

TEST_CASE("bdh generate: a prompt may look like syntax") {
  const GenerateRun command;
  for (const std::string prompt : {"{}", "[a,b]", "-x", "--echo", "a,b", "%s"}) {
    CHECK(command.text({"--prompt", prompt, "-n", "0", "--echo"}) == prompt);
  }
}

TEST_CASE("bdh generate: several prompts are one batch, each under its heading") {
  const GenerateRun command;
  const std::string out = command.text({"--prompt", "one", "--prompt", "three", "-n", "6", "--greedy"});
  CHECK(out == "=== 1 of 2 ===\n" + expected_text(command, "one", 6) + "\n\n=== 2 of 2 ===\n" +
                   expected_text(command, "three", 6) + "\n");
}

TEST_CASE("bdh generate: eos_token_id of generation_config.json ends a text") {
  const GenerateRun command;
  const Arguments greedy{"--prompt", "hello", "-n", "4", "--greedy"};
  const Json first = command.json(greedy).find("tokens")->as_array().front();
  for (const std::string& eos : {first.dump(), "[999," + first.dump() + "]"}) {
    write_file(command.directory / "generation_config.json", "{\"eos_token_id\":" + eos + "}");
    const Json json = command.json(greedy);
    CHECK(tokens_in(json) == 1);
    CHECK(json.find("finish")->as_string() == "eos");
    CHECK(json.find("text")->as_string().empty());
  }
}

TEST_CASE("bdh generate: --json tells everything") {
  const GenerateRun command;
  const Json json = command.json({"--prompt", "hello", "-n", "4", "--seed", "18446744073709551615"});
  CHECK(tokens_in(json) == 4);
  CHECK(json.find("finish")->as_string() == "length");
  CHECK(json.find("prompt_tokens")->as_integer() == 5);
  CHECK(json.find("seed")->dump() == "18446744073709551615");
  CHECK(json.find("decode_tokens")->as_integer() == 3);
  CHECK(json.find("prefill_tokens_per_second")->as_number() > 0);
  CHECK(json.find("decode_tokens_per_second")->as_number() > 0);
  CHECK(json.find("dtype")->as_string() == "F32");
  const auto& layers = json.find("density")->as_array();
  REQUIRE(layers.size() == 2);
  for (const char* name : {"n", "pairs", "g"}) {
    const double density = layers[0].find(name)->as_number();
    CHECK(density > 0);
    CHECK(density < 1);
  }
  const Json both = command.json({"--prompt", "a", "--prompt", "b", "-n", "2"});
  REQUIRE(both.find("texts")->as_array().size() == 2);
  CHECK(tokens_in(both.find("texts")->as_array()[1]) == 2);
  CHECK(both.find("text") == nullptr);
}

TEST_CASE("bdh generate: a seed repeats the text, in every form and with any number of threads") {
  const GenerateRun command;
  const Arguments base{"--prompt", "some words to begin with", "-n", "40", "--seed", "5", "--chunk", "7"};
  const std::string text = command.text(base);
  for (const Arguments& more : std::vector<Arguments>{{"--threads", "1"}, {"--threads", "3"}}) {
    Arguments arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    CHECK(command.text(arguments) == text);
  }
  Arguments other = base;
  other[5] = "6";
  CHECK(command.text(other) != text);
  const auto random_seed = [&] { return command.json({"--prompt", "x", "-n", "1"}).find("seed")->dump(); };
  CHECK(random_seed() != random_seed());
}

TEST_CASE("bdh generate: text ends before a stop string") {
  const GenerateRun command;
  const std::string text = expected_text(command, "hello", 30);
  const size_t begin = character_at(text, 9);
  const std::string stop = text.substr(begin, character_at(text, begin + 4) - begin);
  const Arguments arguments{"--prompt", "hello", "-n", "30", "--greedy", "--stop", "never", "--stop", stop};
  CHECK(command.text(arguments) == text.substr(0, text.find(stop)));
  CHECK(command.json(arguments).find("finish")->as_string() == "stop");
}

TEST_CASE("bdh generate: generation_config.json gives the defaults, options override it") {
  const GenerateRun command;
  write_file(command.directory / "generation_config.json",
             R"({"max_new_tokens": 3, "do_sample": false, "seed": 77})");
  const Json json = command.json({"--prompt", "hello"});
  CHECK(tokens_in(json) == 3);
  CHECK(json.find("text")->as_string() == expected_text(command, "hello", 3));
  CHECK(json.find("seed")->as_integer() == 77);
  CHECK(tokens_in(command.json({"--prompt", "hello", "-n", "5"})) == 5);
  CHECK(command.json({"--prompt", "hello", "--seed", "8"}).find("seed")->as_integer() == 8);
  CHECK(command.json({"--prompt", "hello", "-n", "30", "--temperature", "9"}).find("text")->as_string() !=
        expected_text(command, "hello", 30));
  write_file(command.directory / "generation_config.json", R"({"top_p": 7})");
  const CommandResult result = command.run({"--prompt", "hello"});
  CHECK(result.exit_code == 1);
  CHECK_MESSAGE(has(result.err, "generation_config.json: top_p"), result.err);
}

TEST_CASE("bdh generate: every option of generation_config.json has a flag that goes before it") {
  const GenerateRun command;
  const std::string settings = (command.directory / "generation_config.json").string();
  const Arguments base{"--prompt", "hello", "--seed", "3"};
  const auto tokens = [&](const Arguments& more) {
    return command.json(joined(base, more)).find("tokens")->dump();
  };
  const auto same = [&](const char* file, const Arguments& plain, const Arguments& flags) {
    CAPTURE(file);
    write_file(settings, "{}");
    const std::string without = tokens(plain), flagged = tokens(joined(plain, flags));
    write_file(settings, file);
    CHECK(tokens(plain) == flagged);
    CHECK(flagged != without);
  };
  const Arguments greedy{"--greedy"}, sampled{"--temperature", "1", "--top-p", "1", "--top-k", "50"};
  const std::string first = command.json(joined(base, greedy)).find("tokens")->as_array()[0].dump();
  same(R"({"max_length": 9})", greedy, {"--max-length", "9"});
  same(R"({"no_repeat_ngram_size": 1})", greedy, {"--no-repeat-ngram-size", "1"});
  same((R"({"suppress_tokens": [)" + first + ",3]}").c_str(), greedy, {"--suppress-tokens", first + ",3"});
  same((R"({"begin_suppress_tokens": [)" + first + "]}").c_str(), greedy, {"--begin-suppress-tokens", first});
  same((R"({"bad_words_ids": [[111,)" + first + "]]}").c_str(), greedy, {"--bad-words-ids", "111," + first});
  same(R"({"do_sample": true, "min_p": 1.0})", sampled, {"--min-p", "1"});
  same(R"({"do_sample": true, "typical_p": 0.1})", sampled, {"--typical-p", "0.1"});
  same(R"({"do_sample": true, "epsilon_cutoff": 0.5})", sampled, {"--epsilon-cutoff", "0.5"});
  same(R"({"do_sample": true, "eta_cutoff": 0.9})", sampled, {"--eta-cutoff", "0.9"});

  write_file(settings, R"({"max_length": 9, "suppress_tokens": [)" + first + R"(], "num_beams": 2})");
  CHECK(has(command.run(base).err, "generation_config.json: num_beams 2: bdh has no beam search"));
  const Arguments ignoring = joined(base, {"--ignore", "num_beams"});
  CHECK(tokens_in(command.json(ignoring)) == 4);
  const Json freed = command.json(joined(ignoring, {"-n", "6", "--suppress-tokens", "none"}));
  CHECK(tokens_in(freed) == 6);
  CHECK(freed.find("tokens")->as_array()[0].dump() == first);
  CHECK(command.run(joined(base, {"--bad-words-ids", "1,,2"})).exit_code == 2);
}

TEST_CASE("bdh generate: several texts of a prompt") {
  const GenerateRun command;
  const Arguments base{"--prompt", "hello", "-n", "5", "--seed", "3"};
  const Arguments twice = joined(base, {"--num-return-sequences", "2"});
  const Json both = command.json(twice);
  REQUIRE(both.find("texts")->as_array().size() == 2);
  const Json& texts = *both.find("texts");
  CHECK(texts.as_array()[0].find("tokens")->dump() == command.json(base).find("tokens")->dump());
  const std::string shown = command.text(twice);
  CHECK(has(shown, "=== 1 of 2 ==="));
  CHECK(has(shown, "=== 2 of 2 ===\n" + texts.as_array()[1].find("text")->as_string()));
  CHECK(has(command.run(joined(twice, {"--greedy"})).err, "num_return_sequences 2"));
  CHECK(command.run(joined(twice, {"--save-session", command.directory / "s"})).exit_code == 2);
}

TEST_CASE("bdh generate: the horizon is the model's unless --horizon says otherwise") {
  const GenerateRun command;
  const std::string plain = expected_text(command, "hello", 30);
  write_file(command.directory / "generation_config.json", R"({"do_sample": false, "horizon": [3, "inf"]})");
  const Arguments arguments{"--prompt", "hello", "-n", "30"};
  const Json damped = command.json(arguments);
  CHECK(damped.find("text")->as_string() != plain);
  CHECK(damped.find("horizon")->dump() == R"([3, "inf"])");
  CHECK(command.text(joined(arguments, {"--horizon", "3,inf"})) == damped.find("text")->as_string());
  CHECK(command.text(joined(arguments, {"--horizon", "none"})) == plain);
  CHECK(command.json(joined(arguments, {"--horizon", "none"})).find("horizon")->is_null());
  for (const char* wrong : {"0", "-2", "nan", "4,,5", "soon"}) {
    const CommandResult result = command.run(joined(arguments, {"--horizon", wrong}));
    CHECK(result.exit_code == 2);
    CHECK_MESSAGE(has(result.err, "a horizon is a positive number of tokens"), result.err);
  }
  CHECK(has(command.run(joined(arguments, {"--horizon", "1,2,3"})).err,
            "horizon must be one number, or one for each of the 2 heads, not 3"));
  write_file(command.directory / "generation_config.json", R"({"horizon": [3, 4, 5]})");
  CHECK(has(command.run(arguments).err, "generation_config.json: horizon: 3 numbers for a model of 2 heads"));
}

TEST_CASE("bdh generate: a text that goes past the model's block is warned about, once") {
  const GenerateRun command;
  const auto warned = [&](const Arguments& more) {
    const std::string err = command.run(joined({"--prompt", "hello", "--greedy"}, more)).err;
    const size_t at = err.find("goes past the 24 tokens of a block");
    CHECK(err.find("goes past", at == std::string::npos ? 0 : at + 9) == std::string::npos);
    return at != std::string::npos && has(err, "give --horizon 6");
  };
  for (const char* file : {"config.json", "metadata.json", "training_args.json"}) {
    CAPTURE(file);
    CHECK_FALSE(warned({"-n", "40"}));
    const std::filesystem::path path = command.directory / file;
    const bool config = path.filename() == "config.json";
    const std::string before = config ? bdh::test::read_file(path) : "";
    write_file(path, config ? before.substr(0, before.rfind('}')) + R"(, "block_size": 24})"
                            : R"({"block_size": 24})");
    CHECK(warned({"-n", "40"}));
    CHECK_FALSE(warned({"-n", "19"}));
    CHECK_FALSE(warned({"-n", "40", "--horizon", "6"}));
    CHECK(warned({"-n", "40", "--horizon", "none"}));
    if (config) {
      write_file(path, before);
    } else {
      std::filesystem::remove(path);
    }
  }
}

TEST_CASE("bdh generate: a kept session goes on as if it had never stopped") {
  const GenerateRun command;
  const std::string kept = (command.directory / "kept").string();
  for (const Arguments& choice : {Arguments{"--greedy"}, Arguments{"--seed", "9"}}) {
    for (const Arguments& horizon : {Arguments{}, Arguments{"--horizon", "7"}}) {
      const Arguments options = joined(choice, horizon);
      const auto tokens = [](const Json& json) { return json.find("tokens")->as_array(); };
      Json::Array whole = tokens(command.json(joined({"--prompt", "hello", "-n", "24"}, options)));
      Json::Array parts =
          tokens(command.json(joined({"--prompt", "hello", "-n", "10", "--save-session", kept}, options)));
      const Arguments again = choice.size() == 1 ? choice : Arguments{};
      for (const char* count : {"1", "13"}) {
        const Arguments on{"--load-session", kept, "--save-session", kept, "-n", count};
        for (const Json& token : tokens(command.json(joined(on, again)))) parts.push_back(token);
      }
      CHECK(parts == whole);
    }
  }
  CHECK(command.run({"--load-session", kept, "-n", "3", "--horizon", "8"}).exit_code == 1);
  CHECK(has(command.run({"--load-session", kept, "-n", "3", "--dtype", "bf16"}).err,
            "saved with weights in F32"));
  CHECK(has(command.run({"--load-session", kept + "x", "-n", "3"}).err, "no such file"));
  CHECK(command.run({"--prompt", "a", "--prompt", "b", "--save-session", kept}).exit_code == 2);
}

TEST_CASE("bdh generate: the prompt cache changes no text") {
  const GenerateRun command;
  const std::string cache = (command.directory / "cache").string();
  const Arguments arguments{"--prompt", std::string(700, 'x') + "hello", "-n", "12", "--seed", "5"};
  const std::string plain = command.text(arguments);
  for (int i = 0; i < 2; ++i) CHECK(command.text(joined(arguments, {"--prompt-cache", cache})) == plain);
  CHECK_FALSE(std::filesystem::is_empty(cache));
  CHECK(command.run(joined(arguments, {"--prompt-cache-bytes", "5"})).exit_code == 2);
}

TEST_CASE("bdh generate: drafts change no text") {
  const GenerateRun command;
  for (const Arguments& choice : {Arguments{"--greedy"}, Arguments{"--seed", "5", "--top-k", "2"}}) {
    const Arguments arguments = joined({"--prompt", "abababababab", "-n", "60"}, choice);
    CHECK(command.text(joined(arguments, {"--drafts"})) == command.text(arguments));
  }
}

TEST_CASE("bdh generate: wrong usage names the option") {
  const GenerateRun command;
  check_failure(command.run({}), 2, "--prompt");
  check_failure(command.run({"-", "--prompt", "x"}), 2, "exactly one");
  check_failure(command.run({"--prompt", "x", "--prompt-file", "y"}), 2, "exactly one");
  check_failure(command.run({"x"}), 2, "INPUT");
  const std::vector<Arguments> wrong{{"--top-k", "-1"},
                                     {"--top-p", "1.1"},
                                     {"--top-p", "nan"},
                                     {"--seed", "-1"},
                                     {"--temperature", "inf"},
                                     {"--temperature", "-1"},
                                     {"-n", "1e3"},
                                     {"-n", "-1"},
                                     {"--repetition-penalty", "0"},
                                     {"--form", "circular"},
                                     {"--top-k", "1.5"}};
  for (Arguments arguments : wrong) {
    const std::string option = arguments[0] == "-n" ? "--max-new-tokens" : arguments[0];
    arguments.insert(arguments.end(), {"--prompt", "x"});
    check_failure(command.run(arguments), 2, option);
  }
}

TEST_CASE("bdh generate: an empty prompt and an empty stop string are errors") {
  const GenerateRun command;
  for (const Arguments& arguments : std::vector<Arguments>{
           {"--prompt", ""}, {"--prompt", "a", "--prompt", ""}, {"-"}, {"--prompt", "x", "--stop", ""}}) {
    const CommandResult result = command.run(arguments);
    CHECK(result.exit_code == 1);
    CHECK(result.out.empty());
    CHECK_MESSAGE(has(result.err, "empty"), result.err);
  }
}

TEST_CASE("bdh generate: weights with NaN are one clear error") {
  const GenerateRun command;
  const auto path = command.directory / "model.safetensors";
  std::string bytes = bdh::test::read_file(path);
  {
    const bdh::SafetensorsFile file = bdh::SafetensorsFile::open(path);
    for (const bdh::TensorInfo& tensor : file.tensors()) {
      if (tensor.name == "lm_head") std::memset(bytes.data() + file.data_offset() + tensor.begin, 0xFF, 4);
    }
  }
  write_file(path, bytes);
  const CommandResult result = command.run({"--prompt", "hello"});
  CHECK(result.exit_code == 1);
  CHECK_MESSAGE(has(result.err, "NaN"), result.err);
}
