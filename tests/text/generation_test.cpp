// Generation on a scripted backend, which answers each prompt with known bytes: streaming, stop strings,
// ends, batches, cancellation and what sessions have read. The model itself plays no part.
#include "bdh/text/generation.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "bdh/text/utf8.h"
#include "tests/support/models.h"

using namespace bdh;

namespace {

/// After a prompt that ends with '>' come the bytes of its script, then zeros.
using Scripts = std::map<std::string, std::string>;

struct ScriptedState : State {
  std::string read;
  int64_t position() const override { return static_cast<int64_t>(read.size()); }
  void copy(const State& other) override { *this = static_cast<const ScriptedState&>(other); }
  SavedState save() const override { return {}; }
  KeptTokens last_tokens(int64_t) const override { return {}; }
  void restore(const SavedState&) override {}
  size_t bytes() const override { return read.size(); }
};

class ScriptedBackend : public Backend {
 public:
  explicit ScriptedBackend(Scripts scripts) : scripts_(std::move(scripts)) {}
  std::string name() const override { return "scripted"; }
  int64_t prefill_tokens() const override { return 256; }
  std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) override {
    auto packed = std::make_shared<Packed>();
    packed->dims = parameters.dims;
    packed->dtype = dtype;
    return packed;
  }
  std::unique_ptr<State> new_state(const Packed&, const StateOptions&) override {
    return std::make_unique<ScriptedState>();
  }
  MemoryNeed memory(const Dimensions&, DType, int64_t, DType) const override { return {}; }
  void read(const Packed& packed, const Read& read) override {
    if (is_decode(read.segments)) batches.push_back(read.segments.size());
    for (LayerActivity& layer : read.activity) layer.tokens += static_cast<int64_t>(read.segments.size());
    for (const Segment& segment : read.segments) answer(packed, segment);
  }

  std::vector<size_t> batches;  // sequences in each read of one token

 private:
  void answer(const Packed& packed, const Segment& segment) {
    std::string& read = static_cast<ScriptedState*>(segment.state)->read;
    for (const int32_t token : segment.tokens) read.push_back(static_cast<char>(token));
    if (!segment.draw && !segment.logits) return;
    std::vector<float> logits(static_cast<size_t>(packed.dims.vocab), 1.0f);
    const std::string prompt = read.substr(0, read.find('>') + 1);
    const std::string& script = scripts_[prompt];
    const size_t at = read.size() - prompt.size();
    if (script == "NaN") logits[7] = std::numeric_limits<float>::quiet_NaN();
    logits[at < script.size() ? static_cast<unsigned char>(script[at]) : 0] = 100;
    if (segment.logits) std::copy(logits.begin(), logits.end(), segment.logits);
    if (segment.draw) segment.draw->token = Sampler().draw(*segment.draw, logits);
  }

  Scripts scripts_;
};

/// Bytes, and zero ends a text.
struct EosTokenizer : ByteTokenizer {
  std::optional<int32_t> eos() const override { return 0; }
};

struct Piece {
  size_t index;
  std::string text;
};

/// A scripted model, and one generation from it.
struct Script {
  explicit Script(Scripts scripts, int64_t vocab = 256)
      : backend(std::make_shared<ScriptedBackend>(std::move(scripts))) {
    const Config sizes = test::config_of(2, 4, 1, 2, vocab);
    weights = std::make_shared<Weights>(sizes, random_state_dict(sizes, 1), backend);
    config.sampling.do_sample = false;
    callbacks.on_text = [this](size_t index, std::string_view text) {
      pieces.push_back({index, std::string(text)});
      return ++calls != cancel_at;
    };
  }

  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;

  GenerationResult run(const std::vector<std::string>& prompts) {
    for (size_t i = 0; i < prompts.size(); ++i) sessions.emplace_back(weights);
    std::vector<Session*> pointers;
    for (Session& session : sessions) pointers.push_back(&session);
    return generate(pointers, *tokenizer, prompts, config, callbacks, options);
  }
  GeneratedText run(const std::string& prompt) { return run(std::vector<std::string>{prompt}).texts[0]; }

  std::string streamed(size_t index) const {
    std::string text;
    for (const Piece& piece : pieces) {
      if (piece.index == index) text += piece.text;
    }
    return text;
  }

  std::shared_ptr<ScriptedBackend> backend;
  std::shared_ptr<const Weights> weights;
  std::shared_ptr<const Tokenizer> tokenizer = std::make_shared<EosTokenizer>();
  GenerationConfig config;
  GenerationCallbacks callbacks;
  ReadOptions options;
  std::vector<Session> sessions;
  std::vector<Piece> pieces;
  int calls = 0;
  int cancel_at = 0;  // the call of on_text that returns false
};

std::string failure(Script& script, const std::vector<std::string>& prompts, ErrorKind kind) {
  try {
    script.run(prompts);
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the end-of-text token ends a text and is no part of it") {
  Script script(Scripts{{"a>", "hello"}});
  const GeneratedText out = script.run("a>");
  CHECK(out.text == "hello");
  CHECK(out.finish == FinishReason::eos);
  CHECK(out.tokens == std::vector<int32_t>{'h', 'e', 'l', 'l', 'o', 0});
  CHECK(out.prompt_tokens == 2);
  CHECK(script.streamed(0) == "hello");
  CHECK(script.sessions[0].position() == 2 + 5);
}

TEST_CASE("every token of eos ends a text, with a tokenizer's own or without one") {
  for (const bool own : {true, false}) {
    Script script(Scripts{{"a>", "hello"}, {"b>", "he"}});
    if (!own) script.tokenizer = std::make_shared<ByteTokenizer>();
    script.config.eos = {'x', 'l', 4096, -1};
    script.config.max_new_tokens = 4;
    const GenerationResult result = script.run({std::string("a>"), std::string("b>")});
    CHECK(result.texts[0].text == "he");
    CHECK(result.texts[0].finish == FinishReason::eos);
    CHECK(result.texts[0].tokens == std::vector<int32_t>{'h', 'e', 'l'});
    CHECK(script.streamed(0) == "he");
    CHECK(result.texts[1].finish == (own ? FinishReason::eos : FinishReason::length));
  }
}

TEST_CASE("on_token has every token and its log probability, and may cancel") {
  Script script(Scripts{{"a>", "he"}, {"b>", "h"}});
  std::map<size_t, std::vector<int32_t>> tokens;
  std::vector<double> probabilities;
  script.callbacks.on_token = [&](size_t index, int32_t token, double log_probability) {
    tokens[index].push_back(token);
    probabilities.push_back(log_probability);
    return true;
  };
  const GenerationResult result = script.run({std::string("a>"), std::string("b>")});
  for (size_t i = 0; i < 2; ++i) CHECK(tokens[i] == result.texts[i].tokens);
  // The script's logit is 100, every other 1.
  CHECK(probabilities.front() == doctest::Approx(-std::log1p(255 * std::exp(-99.0))));

  Script stopped(Scripts{{"a>", "hello"}});
  stopped.callbacks.on_token = [](size_t, int32_t token, double) { return token != 'l'; };
  const GeneratedText out = stopped.run("a>");
  CHECK(out.finish == FinishReason::cancelled);
  CHECK(out.text == "hel");
}

TEST_CASE("one session and one prompt give what the lists of them give") {
  Script script(Scripts{{"a>", "hello"}});
  Session session(script.weights);
  script.config.num_return_sequences = 3;
  std::string streamed;
  const GeneratedText out =
      generate(session, *script.tokenizer, "a>", script.config, [&](std::string_view text) {
        streamed += text;
        return true;
      });
  CHECK(out.text == "hello");
  CHECK(streamed == "hello");
  CHECK(out.finish == FinishReason::eos);
  CHECK(session.position() == 2 + 5);
}

TEST_CASE("a text ends after max_new_tokens") {
  Script script(Scripts{{"a>", "hello"}});
  script.config.max_new_tokens = 3;
  const GeneratedText out = script.run("a>");
  CHECK(out.text == "hel");
  CHECK(out.finish == FinishReason::length);
  CHECK(script.sessions[0].position() == 2 + 2);
}

TEST_CASE("with max_new_tokens 0 the prompt is read and nothing more") {
  Script script(Scripts{{"a>", "hello"}});
  script.config.max_new_tokens = 0;
  const GenerationResult result = script.run({std::string("a>"), std::string("bcd>")});
  CHECK(result.texts[0].tokens.empty());
  CHECK(result.texts[1].finish == FinishReason::length);
  CHECK(result.prefill_tokens == 6);
  CHECK(result.decode_tokens == 0);
  CHECK(script.calls == 0);
  CHECK(script.sessions[1].position() == 4);
}

TEST_CASE("a stop string over several tokens is found and never streamed") {
  Script script(Scripts{{"a>", "one\ntwo\n\nthree"}});
  script.config.stop = {"\n\n", "never"};
  const GeneratedText out = script.run("a>");
  CHECK(out.text == "one\ntwo");
  CHECK(out.finish == FinishReason::stop);
  CHECK(out.tokens.size() == 9);
  CHECK(script.streamed(0) == out.text);
  CHECK(script.sessions[0].position() == 2 + 8);
}

TEST_CASE("what was held back for a stop string comes at the end") {
  Script script(Scripts{{"a>", "one EN"}});
  script.config.stop = {"END"};
  CHECK(script.run("a>").text == "one EN");
  CHECK(script.streamed(0) == "one EN");
}

TEST_CASE("a stop string that ends with the last token allowed is a stop") {
  Script script(Scripts{{"a>", "onEND"}});
  script.config.stop = {"END"};
  script.config.max_new_tokens = 5;
  const GeneratedText out = script.run("a>");
  CHECK(out.text == "on");
  CHECK(out.finish == FinishReason::stop);
}

TEST_CASE("the stream never splits a character and equals the text, valid or not") {
  Script script(Scripts{{"a>", "\xC3\xA9\xFF\xF0\x9D\x84\x9E\xE2\x82"}});
  const GeneratedText out = script.run("a>");
  CHECK(out.text == "\xC3\xA9\xEF\xBF\xBD\xF0\x9D\x84\x9E\xEF\xBF\xBD");
  CHECK(script.streamed(0) == out.text);
  for (const Piece& piece : script.pieces) CHECK(valid_utf8(piece.text) == piece.text);
}

TEST_CASE("a batch gives what its prompts give alone, and finished sequences leave it") {
  const Scripts scripts = {{"a>", "first"}, {"longer>", "x"}, {"c>", "third one"}};
  Script batch(scripts);
  const GenerationResult result = batch.run({std::string("a>"), std::string("longer>"), std::string("c>")});
  size_t i = 0;
  for (const std::string prompt : {"a>", "longer>", "c>"}) {
    Script alone(scripts);
    CHECK(result.texts[i].text == alone.run(prompt).text);
    CHECK(result.texts[i].text == scripts.at(prompt));
    CHECK(batch.streamed(i) == scripts.at(prompt));
    ++i;
  }
  CHECK(result.prefill_tokens == 11);
  CHECK(result.decode_tokens == 5 + 1 + 9);
  CHECK(batch.backend->batches == std::vector<size_t>{3, 2, 2, 2, 2, 1, 1, 1, 1});
  REQUIRE(result.activity.size() == 2);
  CHECK(result.activity[0].tokens == 15);
  CHECK(result.prefill_seconds > 0);
  CHECK(result.decode_seconds > 0);
}

TEST_CASE("a session continues after what it has read") {
  Script script(Scripts{{"a>", "first. And then."}});
  script.config.stop = {"."};
  CHECK(script.run("a>").text == "first");
  Session* session = script.sessions.data();
  const std::string more = ". And";
  const auto result = generate({&session, 1}, *script.tokenizer, {&more, 1}, script.config);
  CHECK(result.texts[0].text == " then");
}

TEST_CASE("cancelled by on_text, every session has read all of its tokens but the last") {
  Script script(Scripts{{"a>", "first"}, {"b>", "second"}});
  script.cancel_at = 3;
  const GenerationResult result = script.run({std::string("a>"), std::string("b>")});
  for (size_t i = 0; i < 2; ++i) {
    CHECK(result.texts[i].finish == FinishReason::cancelled);
    CHECK(result.texts[i].text == script.streamed(i));
    CHECK(result.texts[i].tokens.size() == 2);
    CHECK(script.sessions[i].position() == 2 + 1);
  }
  CHECK(script.streamed(0) == "fi");
  CHECK(script.streamed(1) == "s");
  CHECK(script.calls == 3);
}

TEST_CASE("cancelled between chunks of a prompt, the session has read what was reported") {
  Script script(Scripts{{"a>", "first"}});
  script.options.chunk = 4;
  script.callbacks.on_prefill = [](int64_t done, int64_t total) {
    CHECK(total == 10);
    return done < 8;
  };
  const GenerationResult result = script.run(std::vector<std::string>{"12345678a>"});
  CHECK(result.texts[0].finish == FinishReason::cancelled);
  CHECK(result.texts[0].tokens.empty());
  CHECK(result.prefill_tokens == 8);
  CHECK(script.sessions[0].position() == 8);
}

TEST_CASE("cancelled with the whole prompt read, nothing is generated") {
  Script script(Scripts{{"a>", "first"}});
  script.callbacks.on_prefill = [](int64_t, int64_t) { return false; };
  const GeneratedText out = script.run("a>");
  CHECK(out.finish == FinishReason::cancelled);
  CHECK(out.tokens.empty());
  CHECK(script.sessions[0].position() == 2);
}

TEST_CASE("text i samples with seed + i") {
  const auto sample = [](uint64_t seed, const std::vector<std::string>& prompts) {
    Script script(Scripts{});
    script.config.sampling = {.temperature = 100, .top_k = 0, .top_p = 1, .seed = seed};
    script.config.max_new_tokens = 20;
    std::vector<std::vector<int32_t>> tokens;
    for (const GeneratedText& text : script.run(prompts).texts) tokens.push_back(text.tokens);
    return tokens;
  };
  const auto both = sample(5, {"a>", "a>"});
  CHECK(both[0] == sample(5, {"a>"})[0]);
  CHECK(both[1] == sample(6, {"a>"})[0]);
  CHECK(both[0] != both[1]);
}

TEST_CASE("tokens that the tokenizer does not have are never drawn") {
  Script script(Scripts{}, 300);
  script.config.sampling = {.temperature = 1e6f, .top_k = 0, .top_p = 1, .seed = 1};
  script.config.max_new_tokens = 300;
  script.tokenizer = std::make_shared<ByteTokenizer>();
  CHECK(script.run("a>").tokens.size() == 300);
}

TEST_CASE("the repetition penalty sees the prompt and the text") {
  Script script(Scripts{{"ab>", "ab>x"}});
  script.config.sampling.repetition_penalty = 1000;
  script.tokenizer = std::make_shared<ByteTokenizer>();
  script.config.max_new_tokens = 4;
  CHECK(script.run("ab>").tokens == std::vector<int32_t>{0, 1, 2, 'x'});
}

TEST_CASE("max_length counts the prompt, for each prompt its own") {
  Script script(Scripts{{"a>", "hello"}, {"longer>", "hello"}});
  script.config.max_length = 8;
  const GenerationResult result = script.run({std::string("a>"), std::string("longer>")});
  CHECK(result.texts[0].finish == FinishReason::eos);
  CHECK(result.texts[1].text == "h");
  CHECK(result.texts[1].finish == FinishReason::length);
  Script full(Scripts{});
  full.config.max_length = 7;
  CHECK(failure(full, {"a>", "longer>"}, ErrorKind::invalid_argument).find("max_length 7") !=
        std::string::npos);
  for (const Session& session : full.sessions) CHECK(session.position() == 0);
}

TEST_CASE("a text does not end before min_new_tokens, nor begin with what is suppressed there") {
  Script script(Scripts{{"a>", ""}});
  script.config.min_new_tokens = 3;
  CHECK(script.run("a>").tokens == std::vector<int32_t>{1, 1, 1, 0});
  Script begins(Scripts{{"a>", "hello"}});
  begins.config.begin_suppress_tokens = {'h', 0};
  const GeneratedText out = begins.run("a>");
  CHECK(out.tokens == std::vector<int32_t>{1, 'e', 'l', 'l', 'o', 0});
  Script longer(Scripts{{"a>", "hi"}});
  longer.config.min_length = 7;
  CHECK(longer.run("a>").tokens == std::vector<int32_t>{'h', 'i', 1, 1, 1, 0});
}

TEST_CASE("where every token is banned, greedy takes token 0 and says so, and sampling is an error") {
  Script script(Scripts{{"a>", "hello"}});
  for (int64_t token = 0; token < 256; ++token) script.config.suppress_tokens.push_back(token);
  const GenerationResult result = script.run(std::vector<std::string>{"a>"});
  CHECK(result.texts[0].tokens == std::vector<int32_t>{0});
  CHECK(result.exhausted);
  script.config.sampling.do_sample = true;
  script.sessions.clear();
  CHECK(failure(script, {"a>"}, ErrorKind::invalid_argument).find("every token is banned") == 0);
  Script some(Scripts{{"a>", "hello"}});
  some.config.suppress_tokens = {'h'};
  CHECK(!some.run(std::vector<std::string>{"a>"}).exhausted);
}

TEST_CASE("several texts of each prompt are those of as many prompts, read once") {
  const auto sample = [](int64_t copies, const std::vector<std::string>& prompts) {
    Script script(Scripts{});
    script.config.sampling = {.temperature = 100, .top_k = 0, .top_p = 1, .seed = 5};
    script.config.max_new_tokens = 20;
    script.config.no_repeat_ngram_size = 1;
    script.config.num_return_sequences = copies;
    const GenerationResult result = script.run(prompts);
    std::vector<std::vector<int32_t>> tokens;
    for (const GeneratedText& text : result.texts) {
      CHECK(text.text == script.streamed(tokens.size()));
      tokens.push_back(text.tokens);
    }
    CHECK(result.prefill_tokens == 2 * static_cast<int64_t>(prompts.size()));
    CHECK(script.sessions[0].position() == 2 + std::ssize(tokens[0]) - 1);
    return tokens;
  };
  const auto texts = sample(3, {"a>", "b>"});
  REQUIRE(texts.size() == 6);
  CHECK(texts == sample(1, {"a>", "a>", "a>", "b>", "b>", "b>"}));
  CHECK(texts[0] != texts[1]);
  Script greedy(Scripts{});
  greedy.config.num_return_sequences = 2;
  CHECK(failure(greedy, {"a>"}, ErrorKind::invalid_argument).find("num_return_sequences 2") == 0);
  Script cancelled(Scripts{});
  cancelled.config.sampling.do_sample = true;
  cancelled.config.num_return_sequences = 2;
  cancelled.callbacks.on_prefill = [](int64_t, int64_t) { return false; };
  for (const GeneratedText& text : cancelled.run(std::vector<std::string>{"a>"}).texts)
    CHECK(text.finish == FinishReason::cancelled);
}

TEST_CASE("what transformers would do and bdh does not is refused before anything is read") {
  Script script(Scripts{});
  script.config.extra.emplace_back("num_beams", 4);
  CHECK(failure(script, {"a>"}, ErrorKind::unsupported).find("num_beams 4") != std::string::npos);
  CHECK(script.sessions[0].position() == 0);
}

TEST_CASE("what cannot be generated is an error before anything is read") {
  Script script(Scripts{});
  CHECK(failure(script, {"a>", ""}, ErrorKind::invalid_argument).find("prompt is empty") !=
        std::string::npos);
  for (const Session& session : script.sessions) CHECK(session.position() == 0);
  CHECK(!failure(script, {"a>"}, ErrorKind::invalid_argument).empty());  // three sessions by now
  Script negative(Scripts{});
  negative.config.max_new_tokens = -1;
  CHECK(failure(negative, {"a>"}, ErrorKind::invalid_argument).find("max_new_tokens") == 0);
  CHECK(Script(Scripts{}).run(std::vector<std::string>{}).texts.empty());
}

TEST_CASE("a model that yields NaN is reported as broken") {
  Script script(Scripts{{"a>", "NaN"}});
  CHECK(failure(script, {"a>"}, ErrorKind::bad_file).find("not finite") != std::string::npos);
}
