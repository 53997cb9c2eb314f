// What only the emulator can show of the CUDA backend: orders of threads, allocations, missing devices and
// memory.
#include <doctest/doctest.h>

#include <span>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "tests/kernels/cuda/weights.h"
#include "tests/support/cuda/emulator.h"

using namespace bdh;
using namespace bdh::test;

TEST_CASE("CUDA: the same bits whatever the order of threads and blocks, and with streams that lag") {
  const Config config = config_of(1, 72, 2, 2, 30);
  const auto tokens = some_tokens(20, config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto run = [&] {
      const WeightsPointer weights = on_gpu(config, dtype);
      Session session(weights);
      std::vector<float> logits = session.read_all(std::span(tokens).first(18), in_form(Form::chunked, 12));
      append(logits, session.read_all(std::span(tokens).subspan(18), in_form(Form::recurrent)));
      return logits;
    };
    emulation::reset();
    const std::vector<float> expected = run();
    for (const uint64_t seed : {1, 2, 3}) {
      emulation::set_thread_order(seed);
      emulation::set_streams_lazy(seed == 2);
      CHECK(run() == expected);
    }
    emulation::reset();
  }
}

TEST_CASE("CUDA: reading allocates nothing once warm, and a decode is one graph") {
  const Config config = config_of(2, 16, 2, 8, 30);
  const WeightsPointer weights = on_gpu(config);
  Session session(weights);
  const auto tokens = some_tokens(20, config.vocab_size);
  session.read(tokens);
  session.read(std::span(tokens).first(1));
  const uint64_t allocations = emulation::allocations(), graphs = emulation::graph_launches(),
                 launches = emulation::launches();
  for (int i = 0; i < 5; ++i) session.read(std::span(tokens).first(1));
  CHECK(emulation::graph_launches() == graphs + 5);
  CHECK(emulation::launches() == launches + 5 * (2 * 2 + 2));
  session.read(tokens);
  CHECK(emulation::allocations() == allocations);
}

TEST_CASE("CUDA: a text that is cut allocates nothing once warm either, and gives the same again") {
  const Config config = config_of(1, 8, 2, 4, 20);
  const WeightsPointer weights = on_gpu(config);
  const auto tokens = some_tokens(700, config.vocab_size);
  const std::vector<std::span<const int32_t>> sequences = {tokens, tokens, std::span(tokens).first(3)};
  const std::vector<float> logits = forward(*weights, sequences);
  const uint64_t allocations = emulation::allocations();
  CHECK(forward(*weights, sequences) == logits);
  CHECK(emulation::allocations() == allocations);
}

TEST_CASE("CUDA: the plan of a chunk stays until the GPU has it, however late that is") {
  const Config config = config_of(1, 8, 2, 4, 20);
  const auto tokens = some_tokens(1600, config.vocab_size);
  const auto run = [&] { return Session(on_gpu(config)).read(tokens); };
  const std::vector<float> expected = run();
  emulation::set_streams_lazy(true);
  CHECK(run() == expected);
  emulation::reset();
}

TEST_CASE("CUDA: memory is what was announced, and all of it comes back") {
  const size_t before = emulation::bytes_allocated();
  {
    const Config config = config_of(2, 20, 2, 8, 30);
    const auto backend = cuda::make_backend();
    const Weights weights(config, random_state_dict(config, 3), backend);
    const MemoryNeed need = backend->memory(config.dimensions(), DType::f32, 100);
    CHECK(weights.packed().bytes == need.weights);
    const auto state = backend->new_state(weights.packed(), {});
    CHECK(state->bytes() == need.session);
    CHECK(emulation::bytes_allocated() - before >= need.weights + need.session);
  }
  CHECK(emulation::bytes_allocated() == before);
}

TEST_CASE("CUDA: what is missing is one clear error") {
  const auto message = [](auto&& act) -> std::string {
    try {
      act();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto contains = [](const std::string& text, const char* part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
    CHECK(text.find('\n') == std::string::npos);
  };
  emulation::set_driver_version(0);
  contains(message([] { cuda::make_backend(); }),
           "there is no NVIDIA driver on this machine; use --device cpu");
  emulation::set_driver_version(11040);
  contains(message([] { cuda::make_backend(); }), "supports CUDA 11.4, but this build needs");
  emulation::reset();
  emulation::set_devices({});
  contains(message([] { cuda::make_backend(); }), "finds no GPU");
  emulation::reset();
  contains(message([] { cuda::make_backend(1); }), "there is no GPU cuda:1: this machine has 1");
  emulation::Device old;
  old.name = "Old GPU", old.capability = 70;
  emulation::set_devices({old});
  contains(message([] { cuda::make_backend(); }),
           "cuda:0 (Old GPU) has compute capability 7.0, for which this build has no code");
  emulation::reset();

  const Config config = config_of(2, 20, 2, 8, 30);
  for (size_t successes = 0; successes < 12; ++successes) {
    const WeightsPointer weights = on_gpu(config);
    emulation::fail_next_allocation(successes);
    const std::string told = message([&] {
      Session session(weights);
      session.read(some_tokens(4, 30));
      session.read(some_tokens(1, 30));
      fail(ErrorKind::cancelled, "memory sufficed");
    });
    emulation::reset();
    CAPTURE(told);
    CHECK((told.find("memory sufficed") != std::string::npos ||
           told.find("GPU memory") != std::string::npos ||
           told.find("page-locked memory") != std::string::npos));
    CHECK_NOTHROW(Session(weights).read(some_tokens(4, 30)));
  }
  emulation::Device small;
  small.free_memory = small.total_memory = 100 << 10;
  emulation::set_devices({small});
  contains(message([&] { on_gpu(config_of(2, 64, 2, 32, 30))->packed(); }), "of GPU memory, but");
  emulation::reset();
}
