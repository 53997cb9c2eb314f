// Sessions: the three forms, mixed reads, ragged batches, threads and saved states agree with one another.
#include "bdh/model/session.h"

#include <doctest/doctest.h>

#include <thread>

#include "bdh/base/error.h"
#include "bdh/model/session_file.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

WeightsPointer small_weights(const Config& config, int threads = 2, const std::string& variant = "",
                             std::optional<DType> dtype = {}) {
  return random_weights(config, backend(threads, variant), dtype);
}

const Config kConfigs[] = {
    config_of(unless_slow(3, 1), 48, 3, unless_slow(40, 6),
              77),                                 // N 640: more than one tile, an odd number of heads
    config_of(2, 20, 5, 7, unless_slow(256, 40)),  // D not a multiple of the padding, N 28
    config_of(1, 7, 1, 2, 5),                      // N 14
    config_of(unless_slow(2, 1), 64, 1, unless_slow(32, 2), 300),  // N 2048 in one head
    untied(config_of(3, 24, 2, 4, 40)),                            // weights for each layer
};

constexpr std::initializer_list<int64_t> kChunks = {1, 2, 7, 64, 149, 1000}, kFewChunks = {7, 64};

std::span<const int32_t> part(const std::vector<int32_t>& tokens, size_t begin, size_t end) {
  return std::span(tokens).subspan(begin, end - begin);
}

}  // namespace

TEST_CASE("the three forms are one function, in every variant of the backend") {
  for (const Config& config : kConfigs) {
    const std::vector<int32_t> tokens = some_tokens(unless_slow(150, 70), config.vocab_size);
    const auto baseline = small_weights(config, 1, "");
    const std::vector<float> expected = Session(baseline).read_all(tokens, in_form(Form::parallel));
    for (const std::string& variant : variants()) {
      CAPTURE(variant);
      const auto weights = small_weights(config, 2, variant);
      CHECK(relative_difference(Session(weights).read_all(tokens, in_form(Form::parallel)), expected) < 1e-5);
      CHECK(relative_difference(Session(weights).read_all(tokens, in_form(Form::recurrent)), expected) <
            1e-5);
      for (int64_t chunk : unless_slow(kChunks, kFewChunks)) {
        CHECK(relative_difference(Session(weights).read_all(tokens, in_form(Form::chunked, chunk)),
                                  expected) < 1e-5);
      }
      const std::span<const int32_t> sequence = tokens;
      CHECK(relative_difference(forward(*weights, {&sequence, 1}), expected) < 1e-5);
    }
  }
}

TEST_CASE("chunks and single tokens mix, and clones go their own way") {
  for (const Config& config : kConfigs) {
    const auto weights = small_weights(config);
    const std::vector<int32_t> tokens = some_tokens(140, config.vocab_size);
    const std::vector<float> expected = Session(weights).read_all(tokens, in_form(Form::parallel));
    Session session(weights);
    std::vector<float> logits = session.read_all(part(tokens, 0, 33), in_form(Form::chunked, 10));
    for (size_t i = 33; i < 75; ++i) append(logits, session.read(part(tokens, i, i + 1)));
    Session clone = session.clone();
    const std::vector<float> tail = session.read_all(part(tokens, 75, 140), in_form(Form::chunked, 16));
    const std::vector<float> cloned_tail = clone.read_all(part(tokens, 75, 140), in_form(Form::chunked, 16));
    CHECK(tail == cloned_tail);
    append(logits, tail);
    CHECK(relative_difference(logits, expected) < 1e-5);
    CHECK(session.position() == 140);
    clone.reset();
    CHECK(clone.position() == 0);
    CHECK(relative_difference(clone.read_all(tokens, in_form(Form::recurrent)), expected) < 1e-5);
  }
}

TEST_CASE("a ragged batch gives what each sequence gives alone") {
  const Config config = kConfigs[0];
  const auto weights = small_weights(config);
  const size_t lengths[] = {1, 37, 5, 90};
  for (Form form : {Form::parallel, Form::chunked, Form::recurrent}) {
    const ReadOptions options = in_form(form, 16);
    std::vector<Session> together;
    std::vector<Session*> sessions;
    std::vector<std::vector<int32_t>> texts;
    for (size_t length : lengths)
      texts.push_back(some_tokens(static_cast<int64_t>(length), config.vocab_size));
    std::vector<std::span<const int32_t>> tokens(texts.begin(), texts.end());
    for (size_t i = 0; i < 4; ++i) together.emplace_back(weights);
    for (Session& session : together) sessions.push_back(&session);
    std::vector<float> logits = read_batch(sessions, tokens, options);
    const int32_t next = 4;
    const std::vector<std::span<const int32_t>> one_each(4, std::span(&next, 1));
    const std::vector<float> later = read_batch(sessions, one_each);
    for (size_t i = 0; i < 4; ++i) {
      Session alone(weights);
      const auto row = [&](const std::vector<float>& from) {
        const auto begin = from.begin() + static_cast<std::ptrdiff_t>(i) * config.vocab_size;
        return std::vector<float>(begin, begin + config.vocab_size);
      };
      CHECK(relative_difference(row(logits), alone.read(texts[i], options)) < 1e-5);
      CHECK(relative_difference(row(later), alone.read({&next, 1})) < 1e-5);
      CHECK(together[i].position() == alone.position());
    }
  }
}

TEST_CASE("the same bits whatever the number of threads") {
  const Config config = kConfigs[0];
  const std::vector<int32_t> tokens = some_tokens(unless_slow(100, 36), config.vocab_size);
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto logits = [&](int threads) {
      const auto weights = small_weights(config, threads, "", dtype);
      std::vector<float> all;
      for (Form form : {Form::parallel, Form::chunked, Form::recurrent})
        append(all, Session(weights).read_all(tokens, in_form(form, 32)));
      return all;
    };
    const std::vector<float> one = logits(1);
    for (const int threads : thread_counts()) CHECK(logits(threads) == one);
  }
}

TEST_CASE("a few tokens are read with the bits of one by one, however the backend likes them best") {
  const auto weights = small_weights(kConfigs[1]);
  Session whole(weights), single(weights);
  for (const int64_t position : {0, 1}) {
    const int64_t few = weights->backend().few_tokens(position);
    const std::vector<int32_t> tokens = some_tokens(few, weights->config().vocab_size);
    std::vector<float> expected;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::vector<float> logits = single.read(part(tokens, i, i + 1));
      expected.insert(expected.end(), logits.begin(), logits.end());
    }
    CHECK(whole.read_all(tokens) == expected);
    CHECK(whole.position() == single.position());
  }
}

TEST_CASE("half-precision weights are what their rounding makes them") {
  const Config config = kConfigs[0];
  const std::vector<int32_t> tokens = some_tokens(unless_slow(60, 20), config.vocab_size);
  for (DType dtype : {DType::bf16, DType::f16}) {
    TensorMap rounded;
    for (const auto& [name, tensor] : random_state_dict(config, 3)) {
      rounded[name] = name == "attn.freqs" ? tensor : converted(converted(tensor, dtype), DType::f32);
    }
    const auto expected = std::make_shared<Weights>(config, rounded, backend(1, variants().back()));
    for (const std::string& variant : variants()) {
      const auto weights = small_weights(config, 2, variant, dtype);
      CHECK(weights->dtype() == dtype);
      for (Form form : {Form::parallel, Form::recurrent}) {
        CHECK(relative_difference(Session(weights).read_all(tokens, in_form(form)),
                                  Session(expected).read_all(tokens, in_form(form))) < 1e-5);
      }
    }
  }
}

TEST_CASE("each layer has weights of its own where they are not tied") {
  const Config config = untied(config_of(2, 16, 2, 4, 30));
  TensorMap tensors = random_state_dict(config, 3);
  const std::vector<int32_t> tokens = some_tokens(20, config.vocab_size);
  const auto logits = [&](const Config& sizes, const TensorMap& parameters) {
    const auto weights = std::make_shared<const Weights>(sizes, parameters, backend());
    return Session(weights).read_all(tokens, in_form(Form::recurrent));
  };
  const std::vector<float> own = logits(config, tensors);
  for (const char* name : {"encoder", "encoder_v", "decoder"}) {
    TensorMap changed = tensors;
    changed[concat(name, ".1")] = tensors.at(concat(name, ".0"));
    CHECK(relative_difference(logits(config, changed), own) > 1e-3);
    tensors[concat(name, ".1")] = tensors.at(concat(name, ".0"));
    tensors[name] = tensors.at(concat(name, ".0"));
  }
  const std::vector<float> alike = logits(config, tensors);
  for (const char* name : {"encoder", "encoder_v", "decoder"}) {
    tensors.erase(concat(name, ".0"));
    tensors.erase(concat(name, ".1"));
  }
  CHECK(logits(config_of(2, 16, 2, 4, 30), tensors) == alike);
}

TEST_CASE("a saved session continues where it stood") {
  const TemporaryDirectory directory;
  const auto weights = small_weights(kConfigs[1]);
  const std::vector<int32_t> tokens = some_tokens(50, kConfigs[1].vocab_size);
  const auto path = directory / "session.safetensors";
  Session session(weights);
  session.read(part(tokens, 0, 20), in_form(Form::recurrent));
  Session unsaved = session.clone();
  write_session(path, session.save());
  const SavedSession saved = read_session(path);
  Session restored(weights);
  restored.restore(saved);
  CHECK(restored.position() == 20);
  const auto rest = [&](Session& one) {
    return one.read_all(part(tokens, 20, 50), in_form(Form::recurrent));
  };
  const std::vector<float> logits = rest(restored);
  CHECK(logits == rest(session));
  CHECK(logits == rest(unsaved));
  CHECK(relative_difference(
            logits, Session(weights).read_all(part(tokens, 20, 50), in_form(Form::recurrent))) > 1e-3);
  Session other(small_weights(kConfigs[2]));
  CHECK_THROWS_WITH_AS(other.restore(saved), doctest::Contains("load it with the model it was saved from"),
                       Error);
}

TEST_CASE("a session takes no more than max_bytes, or is refused before anything is read") {
  const auto weights = small_weights(kConfigs[1]);
  SessionOptions options;
  options.max_bytes = Session(weights).bytes();
  CHECK(Session(weights, options).bytes() <= *options.max_bytes);
  --*options.max_bytes;
  const Thrown thrown = thrown_by([&] { Session(weights, options); });
  CHECK(thrown.kind == ErrorKind::out_of_memory);
  CHECK(thrown.says("more than the"));
}

TEST_CASE("memory is constant, however long the text") {
  const Config config = config_of(2, 16, 2, 8, 50);
  const auto weights = small_weights(config);
  Session session(weights);
  const size_t before = session.bytes();
  const std::vector<int32_t> tokens = some_tokens(unless_slow(5000, 600), config.vocab_size);
  session.read(tokens);
  session.read(part(tokens, 0, unless_slow<size_t>(300, 30)), in_form(Form::recurrent));
  CHECK(session.bytes() == before);
  CHECK(session.position() == unless_slow(5300, 630));
}

TEST_CASE("activity is counted alike by chunks and by tokens") {
  const Config config = kConfigs[0];
  const auto weights = small_weights(config);
  const std::vector<int32_t> tokens = some_tokens(40, config.vocab_size);
  std::vector<LayerActivity> chunked, recurrent;
  ReadOptions options = in_form(Form::parallel);
  options.activity = &chunked;
  Session(weights).read(tokens, options);
  options = in_form(Form::recurrent);
  options.activity = &recurrent;
  Session(weights).read(tokens, options);
  REQUIRE(chunked.size() == static_cast<size_t>(config.n_layer));
  for (size_t layer = 0; layer < chunked.size(); ++layer) {
    CHECK(chunked[layer].tokens == 40);
    CHECK(chunked[layer].v_tokens == 40);
    CHECK(recurrent[layer].v_tokens == 0);
    CHECK(chunked[layer].n > 0);
    CHECK(chunked[layer].g > 0);
    CHECK(std::abs(chunked[layer].n - recurrent[layer].n) <=
          2);  // a sum within rounding of zero may fall on either side
    CHECK(std::abs(chunked[layer].pairs - recurrent[layer].pairs) <= 2);
    CHECK(std::abs(chunked[layer].g - recurrent[layer].g) <= 2);
    CHECK(chunked[layer].v > chunked[layer].g);
  }
}

TEST_CASE("sessions of one model read from several threads at once") {
  const auto weights = small_weights(kConfigs[1], 2);
  const std::vector<int32_t> tokens = some_tokens(60, kConfigs[1].vocab_size);
  const std::vector<float> expected = Session(weights).read(tokens);
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = Session(weights).read(tokens); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == expected);
}

TEST_CASE("a read that is cancelled has read what it reported") {
  const auto weights = small_weights(kConfigs[1]);
  const std::vector<int32_t> tokens = some_tokens(100, kConfigs[1].vocab_size);
  Session session(weights);
  ReadOptions options = in_form(Form::chunked, 10);
  options.progress = [](int64_t done, int64_t total) {
    CHECK(total == 100);
    return done < 30;
  };
  CHECK_THROWS_AS(session.read(tokens, options), Error);
  CHECK(session.position() == 30);
}

TEST_CASE("wrong reads are refused before anything is read") {
  const auto weights = small_weights(kConfigs[2]);
  Session session(weights);
  const std::vector<int32_t> none, negative{1, -1}, large{0, 5};
  CHECK_THROWS_WITH_AS(session.read(none), doctest::Contains("at least one"), Error);
  CHECK_THROWS_WITH_AS(session.read(negative), doctest::Contains("tokens[1] is -1"), Error);
  CHECK_THROWS_WITH_AS(session.read(large), doctest::Contains("[0, 5)"), Error);
  CHECK_THROWS_WITH_AS(session.read(std::vector<int32_t>{1}, in_form(Form::chunked, 0)),
                       doctest::Contains("chunk"), Error);
  CHECK(session.position() == 0);
  Session* const twice[] = {&session, &session};
  const std::vector<int32_t> one{1};
  const std::span<const int32_t> tokens[] = {one, one};
  CHECK_THROWS_WITH_AS(read_batch(twice, tokens), doctest::Contains("twice"), Error);
}

TEST_CASE(
    "a state kept as bfloat16: close to one in float32, in every way of reading, with or without a horizon") {
  if (kOnCuda) return;
  for (const Config& config : kConfigs) {
    const std::vector<int32_t> tokens = some_tokens(150, config.vocab_size);
    for (const std::string& variant : variants()) {
      const auto weights = small_weights(config, 2, variant);
      for (const auto& horizon : {std::vector<float>{}, {20}}) {
        CAPTURE(variant);
        const std::vector<float> expected =
            Session(weights, {.horizon = horizon}).read_all(tokens, in_form(Form::recurrent));
        const SessionOptions rounded{.horizon = horizon, .state_dtype = DType::bf16};
        const auto read = [&](Form form, int64_t chunk) {
          return Session(weights, rounded).read_all(tokens, in_form(form, chunk));
        };
        const std::vector<float> recurrent = read(Form::recurrent, 1);
        CHECK(recurrent != expected);
        CHECK(relative_difference(recurrent, expected) < 3e-2);
        CHECK(relative_difference(read(Form::chunked, 7), expected) < 3e-2);
        CHECK(relative_difference(read(Form::chunked, 64), expected) < 3e-2);
      }
    }
  }
}

TEST_CASE("a state kept as bfloat16: half the memory, the same bits on any threads, copied, and kept") {
  if (kOnCuda) return;
  const Config& config = kConfigs[0];
  const std::vector<int32_t> tokens = some_tokens(100, config.vocab_size);
  const auto weights = small_weights(config);
  const SessionOptions rounded{.horizon = {}, .state_dtype = DType::bf16};
  Session session(weights, rounded), exact(weights);
  CHECK(session.bytes() < exact.bytes());
  CHECK(exact.bytes() - session.bytes() == static_cast<size_t>(config.state_bytes()) / 2);
  std::vector<float> logits = session.read_all(part(tokens, 0, 40), in_form(Form::chunked, 16));
  append(logits, session.read_all(part(tokens, 40, 77), in_form(Form::recurrent)));

  for (const int threads : thread_counts()) {
    Session other(small_weights(config, threads), rounded);
    std::vector<float> same = other.read_all(part(tokens, 0, 40), in_form(Form::chunked, 16));
    append(same, other.read_all(part(tokens, 40, 77), in_form(Form::recurrent)));
    CHECK(same == logits);
  }
  Session copy = session.clone(), kept(weights, rounded), halved(weights, rounded);
  kept.restore(session.save());
  halved.restore(session.save(DType::bf16));
  exact.restore(session.save());
  const std::vector<float> following = session.read_all(part(tokens, 77, 100), in_form(Form::recurrent));
  CHECK(copy.read_all(part(tokens, 77, 100), in_form(Form::recurrent)) == following);
  CHECK(kept.read_all(part(tokens, 77, 100), in_form(Form::recurrent)) == following);
  CHECK(halved.read_all(part(tokens, 77, 100), in_form(Form::recurrent)) == following);
  CHECK(relative_difference(exact.read_all(part(tokens, 77, 100), in_form(Form::recurrent)), following) <
        3e-2);
}

TEST_CASE("a state's dtype that a backend does not have is refused by name") {
  const auto weights = small_weights(kConfigs[2]);
  const Thrown thrown = thrown_by(
      [&] { Session(weights, {.horizon = {}, .state_dtype = kOnCuda ? DType::bf16 : DType::f16}); });
  CHECK(thrown.kind == ErrorKind::unsupported);
  CHECK(thrown.says("state as F32"));
}

TEST_CASE("what no backend has yet is refused by name, before anything is read") {
  const auto weights = small_weights(kConfigs[1]);
  Backend& device = weights->backend();
  const std::unique_ptr<State> state = device.new_state(weights->packed(), {});
  const std::vector<int32_t> tokens = {1, 2};
  Segment segment{.state = state.get(), .tokens = tokens};
  const auto refusal = [&](auto change) {
    Segment changed = segment;
    Read read;
    change(changed, read);
    read.segments = {&changed, 1};
    return thrown_by([&] { device.read(weights->packed(), read); });
  };
  if (!device.applies_adapters()) {
    int anything = 0;
    const auto adapted =
        refusal([&](Segment& one, Read&) { one.adapter = reinterpret_cast<const Adapter*>(&anything); });
    CHECK(adapted.says("adapters"));
    CHECK(adapted.kind == ErrorKind::unsupported);
  }
  CHECK(state->position() == 0);

  Parameters scaled;
  scaled.dims = config_of(1, 8, 1, 2, 4).dimensions();
  scaled.embed.group = 32;
  CHECK(thrown_by([&] { device.pack(scaled, DType::f32); }).says("quantized"));
}
