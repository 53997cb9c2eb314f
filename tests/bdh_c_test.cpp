// The C API: what it gives is what the C++ API gives; every failure is a status and a message.
#include "bdh/bdh_c.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bdh/bdh.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"

namespace {

using bdh::test::TemporaryDirectory;

struct Loaded {
  TemporaryDirectory directory;
  bdh_model* model = nullptr;
  bdh_session* session = nullptr;

  Loaded() {
    bdh::test::write_model(directory.path());
    REQUIRE(bdh_model_load(directory.path().c_str(), nullptr, &model) == BDH_OK);
    REQUIRE(bdh_session_new(model, &session) == BDH_OK);
  }
  ~Loaded() {
    bdh_session_free(session);
    bdh_model_free(model);
  }
};

bool says(const char* part) { return std::strstr(bdh_last_error(), part) != nullptr; }

std::vector<float> read(bdh_session* session, const std::vector<int32_t>& tokens) {
  std::vector<float> logits(256);
  REQUIRE(bdh_session_read(session, tokens.data(), tokens.size(), logits.data()) == BDH_OK);
  return logits;
}

int append(void* text, const char* piece, size_t length) {
  static_cast<std::string*>(text)->append(piece, length);
  return 1;
}

}  // namespace

TEST_CASE("C API: logits, sessions, clones and saved states are those of C++") {
  Loaded c;
  const bdh::Model model = bdh::Model::from_pretrained(c.directory.path());
  bdh::Session session(model.weights);
  const std::vector<int32_t> tokens{84, 111, 32, 98};
  CHECK(read(c.session, tokens) == session.read(tokens));
  CHECK(bdh_session_position(c.session) == 4);

  bdh_session* copy = nullptr;
  REQUIRE(bdh_session_clone(c.session, &copy) == BDH_OK);
  const std::string path = (c.directory / "state.safetensors").string();
  REQUIRE(bdh_session_save(c.session, path.c_str()) == BDH_OK);
  const std::vector<float> next = read(c.session, {101});
  CHECK(next == session.read(std::vector<int32_t>{101}));
  CHECK(read(copy, {101}) == next);
  REQUIRE(bdh_session_reset(copy) == BDH_OK);
  CHECK(bdh_session_position(copy) == 0);
  REQUIRE(bdh_session_restore(copy, path.c_str()) == BDH_OK);
  CHECK(bdh_session_position(copy) == 4);
  bdh_model_free(c.model);
  c.model = nullptr;
  CHECK(read(copy, {101}).size() == 256);
  bdh_session_free(copy);
}

TEST_CASE("C API: sizes, text to tokens and back") {
  Loaded c;
  bdh_model_info info;
  bdh_model_get_info(c.model, &info);
  CHECK(info.n_embd == 16);
  CHECK(info.neurons_per_head == 32);
  CHECK(info.parameters == bdh::test::tiny_config().parameters());
  size_t count = 0;
  REQUIRE(bdh_encode(c.model, "To be", 5, nullptr, 0, &count) == BDH_OK);
  CHECK(count == 5);
  std::vector<int32_t> tokens(3, -1);
  REQUIRE(bdh_encode(c.model, "To be", 5, tokens.data(), 2, &count) == BDH_OK);
  CHECK(tokens == std::vector<int32_t>{'T', 'o', -1});
  char text[8] = "......";
  REQUIRE(bdh_decode(c.model, tokens.data(), 2, text, sizeof text, &count) == BDH_OK);
  CHECK(count == 2);
  CHECK(std::string(text) == "To....");
}

TEST_CASE("C API: generation is that of C++, and a callback stops it") {
  Loaded c;
  bdh_generation_options options;
  bdh_generation_defaults(c.model, &options);
  CHECK(options.max_new_tokens == 100);
  CHECK(options.top_k == 50);
  options.max_new_tokens = 30;
  options.seed = 3;
  std::string text;
  REQUIRE(bdh_generate(c.session, "To be", &options, append, &text) == BDH_OK);

  const bdh::Model model = bdh::Model::from_pretrained(c.directory.path());
  bdh::Session session(model.weights);
  bdh::Session* const sessions[] = {&session};
  const std::string prompts[] = {"To be"};
  bdh::GenerationConfig config;
  config.max_new_tokens = 30;
  config.sampling.seed = 3;
  CHECK(text == bdh::generate(sessions, *model.tokenizer, prompts, config).texts[0].text);

  const auto stop = [](void*, const char*, size_t) { return 0; };
  CHECK(bdh_generate(c.session, "To be", &options, stop, nullptr) == BDH_CANCELLED);
}

TEST_CASE("C API: eos_token_id of generation_config.json ends a text") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const std::string settings = R"({"do_sample": false, "max_new_tokens": 9)";
  const auto generated = [&](const std::string& more) {
    bdh::test::write_file(directory / "generation_config.json", settings + more + "}");
    bdh_model* model = nullptr;
    bdh_session* session = nullptr;
    REQUIRE(bdh_model_load(directory.path().c_str(), nullptr, &model) == BDH_OK);
    REQUIRE(bdh_session_new(model, &session) == BDH_OK);
    std::string text;
    bdh_generation_options options;
    bdh_generation_defaults(model, &options);
    REQUIRE(bdh_generate(session, "To be", &options, append, &text) == BDH_OK);
    const int64_t read_tokens = bdh_session_position(session);
    bdh_session_free(session);
    bdh_model_free(model);
    return std::pair(text, read_tokens);
  };
  CHECK(generated("").second == 5 + 8);
  const bdh::Model model = bdh::Model::from_pretrained(directory.path());
  bdh::Session session(model.weights);
  const std::vector<int32_t> prompt{'T', 'o', ' ', 'b', 'e'};
  const std::vector<float> logits = session.read(prompt);
  const auto first = std::max_element(logits.begin(), logits.end()) - logits.begin();
  const auto ended = generated(R"(, "eos_token_id": [255, )" + std::to_string(first) + "]");
  CHECK(ended.first.empty());
  CHECK(ended.second == 5);
}

TEST_CASE("C API: generation_config.json holds beside the options") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  bdh::test::write_file(directory / "generation_config.json",
                        R"({"max_length": 9, "no_repeat_ngram_size": 1, "num_return_sequences": 2})");
  bdh_model* model = nullptr;
  REQUIRE(bdh_model_load(directory.path().c_str(), nullptr, &model) == BDH_OK);
  bdh_generation_options defaults;
  bdh_generation_defaults(model, &defaults);
  CHECK(defaults.do_sample == 0);
  bdh_generation_options longer = defaults;
  longer.max_new_tokens = 6;
  const auto position_after = [&](const bdh_generation_options* options) {
    bdh_session* session = nullptr;
    REQUIRE(bdh_session_new(model, &session) == BDH_OK);
    REQUIRE(bdh_generate(session, "To be", options, nullptr, nullptr) == BDH_OK);
    const int64_t position = bdh_session_position(session);
    bdh_session_free(session);
    return position;
  };
  CHECK(position_after(nullptr) == 8);
  CHECK(position_after(&defaults) == 8);
  CHECK(position_after(&longer) == 5 + 5);
  bdh_model_free(model);
}

TEST_CASE("C API: a horizon is the session's own, else the model's where text is generated") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const auto write_horizon = [&](const char* horizon) {
    bdh::test::write_file(
        directory / "generation_config.json",
        std::string(R"({"do_sample": false, "max_new_tokens": 30, "horizon": )") + horizon + "}");
  };
  const auto generated = [&](const float* horizon, size_t count, bool set) {
    bdh_model* model = nullptr;
    bdh_session* session = nullptr;
    REQUIRE(bdh_model_load(directory.path().c_str(), nullptr, &model) == BDH_OK);
    REQUIRE(bdh_session_new(model, &session) == BDH_OK);
    if (set) REQUIRE(bdh_session_set_horizon(session, horizon, count) == BDH_OK);
    std::string text;
    REQUIRE(bdh_generate(session, "To be", nullptr, append, &text) == BDH_OK);
    bdh_session_free(session);
    bdh_model_free(model);
    return text;
  };
  const float horizon[] = {2, 5};
  write_horizon("null");
  const std::string plain = generated(nullptr, 0, false), damped = generated(horizon, 2, true);
  CHECK(plain != damped);
  write_horizon("[2, 5]");
  CHECK(generated(nullptr, 0, false) == damped);
  CHECK(generated(nullptr, 0, true) == plain);
  write_horizon("9");
  CHECK(generated(horizon, 2, true) == damped);
}

TEST_CASE("C API: a horizon that is none is refused") {
  Loaded c;
  const float wrong[] = {0}, many[] = {1, 2, 3};
  CHECK(bdh_session_set_horizon(c.session, wrong, 1) == BDH_INVALID_ARGUMENT);
  CHECK(says("horizon must be a positive number of tokens"));
  CHECK(bdh_session_set_horizon(c.session, many, 3) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_set_horizon(c.session, nullptr, 1) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_set_horizon(nullptr, many, 1) == BDH_INVALID_ARGUMENT);
}

TEST_CASE("C API: every failure is a status and a message") {
  Loaded c;
  bdh_model* model = nullptr;
  CHECK(bdh_model_load("/nowhere/at/all", nullptr, &model) == BDH_NOT_FOUND);
  CHECK(says("/nowhere/at/all"));
  CHECK(model == nullptr);
  const bdh_load_options quarter{nullptr, "f4", 0};
  CHECK(bdh_model_load(c.directory.path().c_str(), &quarter, &model) == BDH_INVALID_ARGUMENT);
  CHECK(says("f4"));
  const bdh_load_options absent{"cuda:4095", nullptr, 0};
  CHECK(bdh_model_load(c.directory.path().c_str(), &absent, &model) != BDH_OK);
  CHECK(says("--device cpu"));
  const int32_t token = 256;
  CHECK(bdh_session_read(c.session, &token, 1, nullptr) == BDH_INVALID_ARGUMENT);
  CHECK(says("256"));
  CHECK(bdh_session_read(c.session, &token, 0, nullptr) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_read(nullptr, &token, 1, nullptr) == BDH_INVALID_ARGUMENT);
  CHECK(says("session must not be NULL"));
  CHECK(bdh_session_restore(c.session, "/nowhere") == BDH_NOT_FOUND);
  CHECK(bdh_session_position(c.session) == 0);
  bdh::test::write_file(c.directory / "config.json", "{");
  CHECK(bdh_model_load(c.directory.path().c_str(), nullptr, &model) == BDH_BAD_FILE);
}

TEST_CASE("C API: a program in C") {
  Loaded c;
  const auto run = [](const std::string& directory) {
    return bdh::test::run_program(bdh::test::kCProgram, {directory, "To be"});
  };
  const bdh::test::CommandResult good = run(c.directory.path().string());
  CHECK_MESSAGE(good.exit_code == 0, good.err);
  CHECK(good.out.find("44 tokens read") != std::string::npos);
  const bdh::test::CommandResult bad = run("/nowhere/at/all");
  CHECK(bad.exit_code == 1);
  CHECK(bad.err.find("/nowhere/at/all") != std::string::npos);
}
