// The CUDA backend when calls fail: memory refused at every place, launches and graphs refused, what is then
// left.
#include <doctest/doctest.h>

#include <span>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "tests/kernels/cuda/weights.h"
#include "tests/support/cuda/emulator.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

// Lets nothing fail any more when it goes.
struct Failures {
  ~Failures() { emulation::reset(); }
};

std::span<const int32_t> part(const std::vector<int32_t>& tokens, size_t begin, size_t count) {
  return std::span(tokens).subspan(begin, count);
}

}  // namespace

TEST_CASE("CUDA: weights that do not fit leave nothing behind, and fit later") {
  const Failures failures;
  const Config config = config_of(2, 20, 2, 8, 30);
  const size_t before = emulation::bytes_allocated();
  int refused = 0;
  for (size_t successes = 0; successes < 12; ++successes) {
    const WeightsPointer weights = on_gpu(config);
    emulation::fail_next_allocation(successes);
    const Thrown thrown = thrown_by([&] { weights->packed(); });
    emulation::reset();
    if (!thrown.kind) continue;
    ++refused;
    CAPTURE(thrown.message);
    CHECK(thrown.kind == ErrorKind::out_of_memory);
    CHECK((thrown.says("of GPU memory, but") || thrown.says("page-locked memory")));
    CHECK(emulation::bytes_allocated() == before);
    CHECK_NOTHROW(weights->packed());
  }
  CHECK(refused == 8);  // six arrays, a slab and its page-locked twin
  CHECK(emulation::bytes_allocated() == before);
}

TEST_CASE("CUDA: memory that is refused while tokens are read has changed nothing") {
  const Failures failures;
  const Config config = config_of(2, 20, 2, 8, 30);
  const auto tokens = some_tokens(60, config.vocab_size);
  const auto warm = [&](Session& session) { session.read(part(tokens, 0, 5), in_form(Form::parallel)); };
  for (const Form form : {Form::parallel, Form::recurrent}) {
    Session untroubled(on_gpu(config));
    warm(untroubled);
    const std::vector<float> expected = untroubled.read_all(part(tokens, 5, 50), in_form(form));
    int refused = 0;
    for (size_t successes = 0; successes < 12; ++successes) {
      const size_t before = emulation::bytes_allocated();
      {
        Session session(on_gpu(config));
        warm(session);
        emulation::fail_next_allocation(successes);
        const Thrown thrown = thrown_by([&] { session.read_all(part(tokens, 5, 50), in_form(form)); });
        emulation::reset();
        if (!thrown.kind) continue;
        ++refused;
        CHECK(thrown.kind == ErrorKind::out_of_memory);
        CHECK(session.position() == 5);
        CHECK(session.read_all(part(tokens, 5, 50), in_form(form)) == expected);
      }
      CHECK(emulation::bytes_allocated() == before);
    }
    CHECK(refused >= 4);
  }
}

TEST_CASE("CUDA: a session that does not fit says what it needs and what is free") {
  const Failures failures;
  const WeightsPointer weights = on_gpu(config_of(2, 64, 2, 32, 30));
  weights->packed();
  emulation::Device full;
  full.free_memory = emulation::bytes_allocated() + (64 << 10);
  emulation::set_devices({full});
  const Thrown thrown = thrown_by([&] { Session session(weights); });
  CAPTURE(thrown.message);
  CHECK(thrown.kind == ErrorKind::out_of_memory);
  CHECK(thrown.says("a session's state needs 1.0 MB of GPU memory, but 65.5 kB of"));
  CHECK(thrown.says("--device cpu"));
}

TEST_CASE("CUDA: what an older GPU lacks is an error that says so, and the rest runs") {
  const Failures failures;
  emulation::Device older;
  older.capability = 80;
  emulation::set_devices({older});
  for (const cuda::Options& options :
       {cuda::Options{.mma = cuda::Mma::warpgroup}, cuda::Options{.overlap = true}}) {
    const Thrown thrown = thrown_by([&] { cuda::make_backend(0, options); });
    CHECK(thrown.kind == ErrorKind::unsupported);
    CHECK(thrown.says("compute capability 9.0"));
  }
  CHECK(Session(on_gpu(config_of(1, 8, 1, 1, 20))).read(some_tokens(3, 20)).size() == 20);
}

TEST_CASE("CUDA: a start that fails in mid-text is an error, and decode goes on from where it was") {
  const Failures failures;
  const Config config = config_of(2, 20, 2, 8, 30);
  const auto tokens = some_tokens(30, config.vocab_size);
  const size_t before = emulation::bytes_allocated();
  {
    Session untroubled(on_gpu(config));
    const std::vector<float> expected = untroubled.read_all(tokens, in_form(Form::recurrent));
    int refused = 0;
    for (size_t successes = 0; successes < 12; ++successes) {  // of kernels that are recorded, then of graphs
      Session session(on_gpu(config));
      emulation::fail_next_launch(successes);
      std::vector<float> logits;
      const Thrown thrown = thrown_by([&] { logits = session.read_all(tokens, in_form(Form::recurrent)); });
      emulation::reset();
      CHECK(thrown.kind == ErrorKind::unsupported);
      CHECK(thrown.says("CUDA: starting a"));
      refused += thrown.kind.has_value();
      const auto done = static_cast<size_t>(session.position());
      CHECK(done == (successes < 7 ? 0 : successes - 6));
      const std::vector<float> rest =
          session.read_all(part(tokens, done, 30 - done), in_form(Form::recurrent));
      CHECK(std::vector<float>(expected.end() - static_cast<std::ptrdiff_t>(rest.size()), expected.end()) ==
            rest);
    }
    CHECK(refused == 12);
    for (const size_t successes : {0, 1, 7, 15}) {
      Session session(on_gpu(config));
      emulation::fail_next_launch(successes);
      CHECK(
          thrown_by([&] { session.read(tokens, in_form(Form::parallel)); }).says("CUDA: starting a kernel"));
      emulation::reset();
      CHECK(session.position() == 0);
    }
  }
  CHECK(emulation::bytes_allocated() == before);
}

TEST_CASE("CUDA: what a model takes while it reads is what Backend::memory says") {
  const Config config = config_of(2, 72, 2, 4, 100);
  const auto tokens = some_tokens(200, config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const size_t before = emulation::bytes_allocated();
    const WeightsPointer weights = on_gpu(config, dtype);
    const MemoryNeed need = weights->backend().memory(config.dimensions(), dtype, 200);
    Session session(weights);
    session.read(tokens, in_form(Form::parallel));
    session.read(std::span(tokens).first(1));
    const auto took = static_cast<double>(emulation::bytes_allocated() - before),
               said = static_cast<double>(need.weights + need.session + need.working);
    CHECK(took >= 0.999 * said);
    CHECK(took <= 1.02 * said + 16384);
  }
}
