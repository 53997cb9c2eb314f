// Kept sessions: saved at any position, to a file and to a buffer, they go on with the same bits; what is
// foreign or damaged is refused.
#include "bdh/model/session_file.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"
#include "kernels/saved_state.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

const Config kConfig = config_of(2, 24, 3, 8, 40);

std::vector<float> rest_of(Session& session, const std::vector<int32_t>& tokens, Form form) {
  return session.read_all(std::span(tokens).subspan(static_cast<size_t>(session.position())),
                          in_form(form, 7));
}

SavedSession through_buffer(const SavedSession& saved) {
  return read_session(session_bytes(saved), "buffer");
}

struct Kept {
  WeightsPointer weights = random_weights(kConfig, backend());
  std::vector<int32_t> tokens = some_tokens(60, kConfig.vocab_size);

  Session session(int64_t count, Form form, const std::vector<float>& horizon = {}) const {
    Session session(weights, {.horizon = horizon});
    if (count > 0) session.read(std::span(tokens).first(static_cast<size_t>(count)), in_form(form, 7));
    return session;
  }
};

}  // namespace

TEST_CASE("kept sessions: saved, restored and cloned at any position, the text goes on with the same bits") {
  const Kept kept;
  const TemporaryDirectory directory;
  std::mt19937 random(7);
  for (const auto& horizon : {std::vector<float>{}, {3}, {2, 30, INFINITY}}) {
    for (const Form form : {Form::recurrent, Form::chunked}) {
      for (int i = 0; i < unless_slow(12, 3); ++i) {
        const auto position = static_cast<int64_t>(random() % 50);
        CAPTURE(position);
        Session session = kept.session(position, form, horizon);
        write_session(directory / "session", session.save());
        const SavedSession buffer = through_buffer(session.save());
        Session cloned = session.clone();
        Session from_file(kept.weights, {.horizon = horizon}),
            from_buffer(kept.weights, {.horizon = horizon});
        from_file.restore(read_session(directory / "session"));
        from_buffer.read(std::span(kept.tokens).first(9));
        from_buffer.restore(buffer);
        const std::vector<float> expected = rest_of(session, kept.tokens, form);
        CHECK(rest_of(cloned, kept.tokens, form) == expected);
        CHECK(rest_of(from_file, kept.tokens, form) == expected);
        CHECK(rest_of(from_buffer, kept.tokens, form) == expected);
      }
    }
  }
}

TEST_CASE("kept sessions: every backend's states stand for the same S") {
  const Kept kept;
  for (const auto& horizon : {std::vector<float>{}, {3}}) {
    Session one = kept.session(37, Form::recurrent, horizon),
            other = kept.session(37, Form::chunked, horizon);
    const std::vector<float> by_head(horizon.empty() ? 0 : 3, 3.0f);
    const SavedState saved = one.save().state;
    const Tensor s = folded(saved, kConfig.dimensions(), by_head);
    SavedSession whole = one.save();
    whole.state = {.position = 37, .s = s, .base = 37};
    other.restore(whole);
    CHECK(relative_difference(rest_of(other, kept.tokens, Form::chunked),
                              rest_of(one, kept.tokens, Form::chunked)) < 1e-5);
  }
}

TEST_CASE("kept sessions: S as bfloat16 is half as large, and close") {
  const Kept kept;
  Session session = kept.session(40, Form::chunked);
  SavedSession saved = session.save(DType::bf16);
  CHECK(saved.state.s.dtype == DType::bf16);
  Session restored(kept.weights);
  restored.restore(through_buffer(saved));
  CHECK(relative_difference(rest_of(restored, kept.tokens, Form::chunked),
                            rest_of(session, kept.tokens, Form::chunked)) < 2e-2);
  CHECK_THROWS_AS(session.save(DType::f16), Error);
}

TEST_CASE("kept sessions: as the tokens of the text, and as the state again") {
  const Kept kept;
  if (kept.weights->backend().provisional_tokens() == 0) {
    CHECK_THROWS_AS(kept.session(5, Form::chunked).save(KeptForm::tokens), Error);
    return;
  }
  for (const auto& horizon : {std::vector<float>{}, {3}}) {
    for (const int64_t position : {1, 5, 40}) {
      Session session = kept.session(position, Form::chunked, horizon);
      const SavedSession tokens = through_buffer(session.save(KeptForm::tokens));
      CHECK(tokens.state.tokens.count() == position);
      CHECK(tokens.state.s.data == nullptr);
      Session from_tokens(kept.weights, {.horizon = horizon}), again(kept.weights, {.horizon = horizon});
      from_tokens.restore(tokens);
      again.restore(through_buffer(from_tokens.save(KeptForm::state)));
      const std::vector<float> expected = rest_of(session, kept.tokens, Form::chunked);
      CHECK(rest_of(again, kept.tokens, Form::chunked) == rest_of(from_tokens, kept.tokens, Form::chunked));
      Session once_more(kept.weights, {.horizon = horizon});
      once_more.restore(tokens);
      CHECK(relative_difference(rest_of(once_more, kept.tokens, Form::chunked), expected) < 1e-5);
    }
  }
  const auto size = [&](int64_t position, KeptForm form) {
    return session_bytes(kept.session(position, Form::chunked).save(form)).size();
  };
  CHECK(size(2, KeptForm::automatic) == size(2, KeptForm::tokens));
  CHECK(size(2, KeptForm::tokens) < size(60, KeptForm::state) / 4);
  CHECK(size(60, KeptForm::automatic) == size(60, KeptForm::state));
  Session restored(kept.weights);
  restored.restore(kept.session(9, Form::chunked).save());
  CHECK_THROWS_WITH_AS(restored.save(KeptForm::tokens), doctest::Contains("where it read them all itself"),
                       Error);
}

TEST_CASE("kept sessions: where the text stands comes along") {
  const Kept kept;
  SavedSession saved = kept.session(5, Form::chunked).save();
  saved.text = {{7, 9}, uint64_t{1} << 63, 12};
  const Continuation text = through_buffer(saved).text;
  CHECK(text.unread == saved.text.unread);
  CHECK(text.seed == saved.text.seed);
  CHECK(text.step == 12);
}

TEST_CASE("kept sessions: another model's, dtype's or horizon's are refused by name") {
  const Kept kept;
  const SavedSession saved = kept.session(20, Form::chunked, {3}).save();
  const auto refused = [&](Session session, const char* part) {
    const auto thrown = thrown_by([&] { session.restore(saved, "F"); });
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK(thrown.says("F: "));
    CHECK_MESSAGE(thrown.says(part), part);
    CHECK(session.position() == 0);
  };
  const Config same = kConfig, wider = config_of(2, 28, 3, 8, 40);
  TensorMap tensors = random_state_dict(same, 99);
  const auto other = std::make_shared<const Weights>(same, tensors, backend());
  refused(Session(other, {.horizon = {3}}), "saved from another model");
  refused(Session(random_weights(wider, backend()), {.horizon = {3}}), "saved from another model");
  refused(Session(random_weights(same, backend(), DType::bf16), {.horizon = {3}}),
          "saved with weights in F32");
  refused(Session(kept.weights), "saved with horizon 3, this session has none");
  refused(Session(kept.weights, {.horizon = {3, 3, 4}}), "this session has 3,3,4");
  Session alike(kept.weights, {.horizon = {3, 3, 3}});
  alike.restore(saved);
  CHECK(alike.position() == 20);
}

TEST_CASE("kept sessions: a file that is cut or damaged is refused, and the session stays as it was") {
  const Kept kept;
  const std::vector<std::byte> bytes = session_bytes(kept.session(21, Form::recurrent).save());
  const std::vector<float> expected = kept.session(5, Form::recurrent).read(std::span(kept.tokens).first(3));
  std::mt19937 random(3);
  const auto try_restoring = [&](std::span<const std::byte> given) {
    Session session = kept.session(5, Form::recurrent);
    try {
      session.restore(read_session(given, "buffer"), "buffer");
      return true;
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("buffer") != std::string::npos);
      CHECK(session.read(std::span(kept.tokens).first(3)) == expected);
      return false;
    }
  };
  CHECK(try_restoring(bytes));
  for (size_t length = 0; length < bytes.size(); length += 1 + length / 16)
    CHECK_FALSE(try_restoring(std::span(bytes).first(length)));
  for (int i = 0; i < unless_slow(300, 20); ++i) {
    std::vector<std::byte> damaged = bytes;
    const size_t header = 8 + static_cast<size_t>(damaged[0]) + 256 * static_cast<size_t>(damaged[1]);
    damaged[random() % (i % 2 == 0 ? header : damaged.size())] ^= static_cast<std::byte>(1 << random() % 8);
    try_restoring(damaged);  // anything but a crash
  }
}

TEST_CASE("kept sessions: numbers that cannot be are refused") {
  const Kept kept;
  const Dimensions dims = kConfig.dimensions();
  const SavedState good = kept.session(50, Form::recurrent).save().state;
  check(good, dims);
  const auto refused = [&](auto change) {
    SavedState bad = good;
    change(bad);
    CHECK_THROWS_AS(check(bad, dims), Error);
  };
  const auto number = [](DType dtype, const Tensor& like, size_t at, int64_t value) {
    std::byte* data = nullptr;
    Tensor copy = make_tensor(dtype, like.shape, &data);
    std::memcpy(data, like.data, like.bytes());
    std::memcpy(data + at * size_of(dtype), &value, size_of(dtype));
    return copy;
  };
  refused([](SavedState& s) { s.position = -1; });
  refused([](SavedState& s) { s.position = kMaxPosition + 1; });
  refused([](SavedState& s) { s.base = s.position + 1; });
  refused([](SavedState& s) { s.first = 3; });
  refused([](SavedState& s) { s.first = -2; });
  refused([](SavedState& s) { s.s.shape[0] = 1; });
  refused([](SavedState& s) { s.s.dtype = DType::f16; });
  if (!good.held.data) return;  // this backend's are plain
  refused([&](SavedState& s) { s.held = number(DType::i64, good.held, 5, s.position + 1); });
  refused([&](SavedState& s) { s.held = number(DType::i64, good.held, 5, -1); });
  refused([](SavedState& s) { s.tokens = {}; });
  refused(
      [&](SavedState& s) { s.tokens.begin = number(DType::i64, good.tokens.begin, 1, int64_t{1} << 40); });
  refused([&](SavedState& s) { s.tokens.begin = number(DType::i64, good.tokens.begin, 2, 0); });
  refused([&](SavedState& s) { s.tokens.neuron = number(DType::i32, good.tokens.neuron, 0, -3); });
  refused([&](SavedState& s) { s.tokens.neuron = number(DType::i32, good.tokens.neuron, 0, 1 << 30); });
  refused([](SavedState& s) { s.tokens.x.shape[2] = 1; });
}
