// The C API's text: tokens, draws and generation are those of C++; callbacks stop it; what the model's files
// say holds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "bdh/bdh.h"
#include "tests/support/c_api.h"
#include "tests/support/models.h"

namespace {

using namespace bdh::test;

struct Drawn {
  std::vector<int32_t> tokens;
  std::vector<double> log_probabilities;
};

int keep_token(void* user, int32_t token, double log_probability) {
  auto* drawn = static_cast<Drawn*>(user);
  drawn->tokens.push_back(token);
  drawn->log_probabilities.push_back(log_probability);
  return 1;
}

/// A model whose generation_config.json has that text, and what it writes.
struct Configured {
  TemporaryDirectory directory;
  bdh_model* model = nullptr;
  bdh_session* session = nullptr;

  explicit Configured(const std::string& generation) {
    write_model(directory.path());
    write_file(directory / "generation_config.json", generation);
    REQUIRE(bdh_model_load(directory.path().c_str(), nullptr, &model) == BDH_OK);
    REQUIRE(bdh_session_new(model, &session) == BDH_OK);
  }
  ~Configured() {
    bdh_session_free(session);
    bdh_model_free(model);
  }
  Configured(const Configured&) = delete;
  Configured& operator=(const Configured&) = delete;

  std::string text() const {
    std::string text;
    const bdh_generation_options options = options_in_c(model, &text);
    REQUIRE(generate_in_c(session, "To be", &options) == BDH_OK);
    return text;
  }
};

}  // namespace

TEST_CASE("C API: text to tokens, back, and one token's piece") {
  LoadedInC c;
  size_t count = 0;
  REQUIRE(bdh_tokenize(c.model, "To be", 5, 1, nullptr, 0, &count) == BDH_OK);
  CHECK(count == 5);
  std::vector<int32_t> tokens(3, -1);
  REQUIRE(bdh_tokenize(c.model, "To be", 5, 0, tokens.data(), 2, &count) == BDH_OK);
  CHECK(tokens == std::vector<int32_t>{'T', 'o', -1});
  char text[8] = "......";
  REQUIRE(bdh_detokenize(c.model, tokens.data(), 2, 0, text, sizeof text, &count) == BDH_OK);
  CHECK(count == 2);
  CHECK(std::string(text) == "To....");
  REQUIRE(bdh_token_to_piece(c.model, 'x', text, 1, &count) == BDH_OK);
  CHECK(count == 1);
  CHECK(text[0] == 'x');
  CHECK(bdh_token_to_piece(c.model, 256, text, 1, &count) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_tokenize(c.model, nullptr, 1, 0, nullptr, 0, &count) == BDH_INVALID_ARGUMENT);
}

TEST_CASE("C API: generation is that of C++, with what it counts, and callbacks stop it") {
  LoadedInC c;
  std::string text;
  bdh_generation_options options = options_in_c(c.model, &text);
  CHECK(options.max_new_tokens == 100);
  CHECK(options.top_k == 50);
  options.max_new_tokens = 30;
  options.seed = 3;
  bdh_generation_result result;
  REQUIRE(generate_in_c(c.session, "To be", &options, &result) == BDH_OK);
  CHECK(result.finish == BDH_FINISH_LENGTH);
  CHECK(result.prompt_tokens == 5);
  CHECK(result.new_tokens == 30);

  const bdh::Model model = bdh::Model::from_pretrained(c.directory.path());
  bdh::Session session(model.weights);
  bdh::GenerationConfig config;
  config.max_new_tokens = 30;
  config.sampling.seed = 3;
  CHECK(text == bdh::generate(session, *model.tokenizer, "To be", config).text);

  options.on_text = [](void*, const char*, size_t) { return 0; };
  CHECK(generate_in_c(c.session, "To be", &options, &result) == BDH_CANCELLED);
  CHECK(result.finish == BDH_FINISH_CANCELLED);
  options.on_text = nullptr;
  options.on_token = [](void*, int32_t, double) { return 0; };
  CHECK(generate_in_c(c.session, "To be", &options, &result) == BDH_CANCELLED);
  CHECK(result.new_tokens == 1);
  options.on_token = nullptr;
  options.on_prompt = [](void*, int64_t, int64_t) { return 0; };
  CHECK(generate_in_c(c.session, "To be", &options, &result) == BDH_CANCELLED);
  CHECK(result.new_tokens == 0);
}

TEST_CASE("C API: tokens come with their probabilities under the model") {
  LoadedInC c;
  Drawn drawn;
  bdh_generation_options options = options_in_c(c.model);
  options.max_new_tokens = 8;
  options.on_token = keep_token;
  options.user = &drawn;
  REQUIRE(generate_in_c(c.session, "To be", &options) == BDH_OK);
  REQUIRE(drawn.tokens.size() == 8);
  REQUIRE(bdh_session_reset(c.session) == BDH_OK);
  std::vector<float> logits = read_in_c(c.session, {'T', 'o', ' ', 'b', 'e'});
  for (size_t i = 0; i < drawn.tokens.size(); ++i) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    const double expected = logits[static_cast<size_t>(drawn.tokens[i])] - std::log(sum);
    CHECK(drawn.log_probabilities[i] == doctest::Approx(expected).epsilon(1e-5));
    int32_t token = -1;
    REQUIRE(bdh_sample(logits.data(), logits.size(), &options, nullptr, 0, i, &token) == BDH_OK);
    CHECK(token == drawn.tokens[i]);
    logits = read_in_c(c.session, {drawn.tokens[i]});
  }
}

TEST_CASE("C API: a text in two calls, saved between them, is the one in a single call") {
  LoadedInC c;
  std::string whole, parts;
  bdh_generation_options options = options_in_c(c.model, &whole);
  options.max_new_tokens = 20;
  REQUIRE(generate_in_c(c.session, "To be", &options) == BDH_OK);
  REQUIRE(bdh_session_reset(c.session) == BDH_OK);
  options.user = &parts;
  options.max_new_tokens = 9;
  REQUIRE(generate_in_c(c.session, "To be", &options) == BDH_OK);
  const std::string path = (c.directory / "state").string();
  REQUIRE(bdh_session_save(c.session, path.c_str()) == BDH_OK);
  REQUIRE(bdh_session_reset(c.session) == BDH_OK);
  REQUIRE(bdh_session_restore(c.session, path.c_str()) == BDH_OK);
  options.max_new_tokens = 11;
  REQUIRE(generate_in_c(c.session, "", &options) == BDH_OK);
  CHECK(parts == whole);
  CHECK(position_of(c.session) == 5 + 19);
  read_in_c(c.session, {1});
  CHECK(position_of(c.session) == 5 + 20 + 1);
  REQUIRE(bdh_session_reset(c.session) == BDH_OK);
  CHECK(generate_in_c(c.session, "", &options) == BDH_INVALID_ARGUMENT);
  CHECK(says("prompt is empty"));
}

TEST_CASE("C API: stop strings are the call's, else the model's") {
  const Configured plain(R"({"do_sample": false, "max_new_tokens": 40})");
  const std::string whole = plain.text();
  const auto ascii = std::find_if(whole.begin() + std::ssize(whole) / 2, whole.end(),
                                  [](char c) { return static_cast<unsigned char>(c) < 128; });
  REQUIRE(ascii != whole.end());
  const std::string stop(1, *ascii);
  const std::string before = whole.substr(0, whole.find(stop));
  REQUIRE(bdh_session_reset(plain.session) == BDH_OK);
  std::string text;
  bdh_generation_options options = options_in_c(plain.model, &text);
  const char* const stops[] = {"never comes", stop.c_str()};
  options.stop = stops;
  options.stop_count = 2;
  bdh_generation_result result;
  REQUIRE(generate_in_c(plain.session, "To be", &options, &result) == BDH_OK);
  CHECK(result.finish == BDH_FINISH_STOP);
  CHECK(text == before);

  bdh::Json settings = bdh::Json::parse(R"({"do_sample": false, "max_new_tokens": 40})", "settings");
  settings.set("stop", stop);
  const Configured model(settings.dump());
  CHECK(model.text() == before);
  REQUIRE(bdh_session_reset(model.session) == BDH_OK);
  text.clear();
  options = options_in_c(model.model, &text);
  options.stop = stops;
  options.stop_count = 0;
  REQUIRE(generate_in_c(model.session, "To be", &options) == BDH_OK);
  CHECK(text == whole);
}

TEST_CASE("C API: eos_token_id of generation_config.json ends a text") {
  const std::string settings = R"({"do_sample": false, "max_new_tokens": 9)";
  const Configured plain(settings + "}");
  plain.text();
  CHECK(position_of(plain.session) == 5 + 8);
  REQUIRE(bdh_session_reset(plain.session) == BDH_OK);
  const std::vector<float> logits = read_in_c(plain.session, {'T', 'o', ' ', 'b', 'e'});
  const auto first = std::max_element(logits.begin(), logits.end()) - logits.begin();
  const Configured ends(settings + ", \"eos_token_id\": " + std::to_string(first) + "}");
  bdh_generation_result result;
  REQUIRE(generate_in_c(ends.session, "To be", nullptr, &result) == BDH_OK);
  CHECK(result.finish == BDH_FINISH_EOS);
  CHECK(result.new_tokens == 1);
}

TEST_CASE("C API: generation_config.json holds beside the options") {
  const Configured c(R"({"max_length": 9, "no_repeat_ngram_size": 1, "num_return_sequences": 2})");
  const bdh_generation_options defaults = options_in_c(c.model);
  CHECK(defaults.do_sample == 0);
  CHECK(defaults.no_repeat_ngram_size == 1);
  bdh_generation_options longer = defaults, none = defaults;
  longer.max_new_tokens = 6;
  none.max_length = 0;
  const auto position_after = [&](const bdh_generation_options* options) {
    REQUIRE(bdh_session_reset(c.session) == BDH_OK);
    REQUIRE(generate_in_c(c.session, "To be", options) == BDH_OK);
    return position_of(c.session);
  };
  CHECK(position_after(nullptr) == 8);
  CHECK(position_after(&defaults) == 8);
  CHECK(position_after(&longer) == 5 + 5);
  CHECK(generate_in_c(c.session, "To be", &none) == BDH_INVALID_ARGUMENT);
}

TEST_CASE("C API: a horizon is the session's own, else the model's where text is generated") {
  const std::string settings = R"({"do_sample": false, "max_new_tokens": 30, "horizon": )";
  const auto generated = [&](const char* config, const std::vector<float>* horizon) {
    const Configured c(settings + config + "}");
    if (horizon) REQUIRE(bdh_session_set_horizon(c.session, horizon->data(), horizon->size()) == BDH_OK);
    return c.text();
  };
  const std::vector<float> horizon{2, 5}, none;
  const std::string plain = generated("null", nullptr), damped = generated("null", &horizon);
  CHECK(plain != damped);
  CHECK(generated("[2, 5]", nullptr) == damped);
  CHECK(generated("[2, 5]", &none) == plain);
  CHECK(generated("9", &horizon) == damped);
}
