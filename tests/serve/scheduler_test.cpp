// The scheduler on a small model: texts are what they are alone, whatever else runs; ends, errors and what it
// refuses.
#include "bdh/serve/scheduler.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/text/generation.h"
#include "kernels/cpu/backend.h"
#include "tests/support/models.h"

using namespace bdh;

namespace {

constexpr int64_t kChunk = 16;

test::WeightsPointer small_weights(int threads = 1, DType dtype = DType::f32) {
  return test::random_weights(test::config_of(2, 32, 2, 4),
                              cpu::make_backend({.threads = threads, .isa = ""}), dtype);
}

const std::shared_ptr<const Tokenizer>& bytes() {
  static const std::shared_ptr<const Tokenizer> tokenizer = std::make_shared<ByteTokenizer>();
  return tokenizer;
}

std::string some_prompt(size_t length) {
  std::string prompt;
  for (size_t i = 0; i < length; ++i) prompt.push_back(static_cast<char>('a' + (i * 7 + length) % 26));
  return prompt;
}

TextRequest request_of(size_t prompt, uint64_t seed, int64_t tokens = 12) {
  TextRequest request;
  request.prompt = some_prompt(prompt);
  request.config.max_new_tokens = tokens;
  request.config.sampling.seed = seed;
  return request;
}

// One of many kinds.
TextRequest some_request(uint64_t i) {
  constexpr size_t kLengths[] = {1, 3, 15, 16, 17, 40, 130};
  TextRequest request = request_of(kLengths[i % 7], i, static_cast<int64_t>(i % 5) * 4);
  if (i % 3 == 1) request.config.sampling.do_sample = false;
  if (i % 4 == 1) request.config.sampling.repetition_penalty = 1.3f;
  if (i % 4 == 2) request.config.no_repeat_ngram_size = 2;
  if (i % 5 == 3) request.config.horizon = {20.0f};
  if (i % 6 == 2) request.config.stop = {"e"};
  return request;
}

struct Drawn {
  std::vector<int32_t> tokens;
  std::vector<double> log_probabilities;
  std::string text;
  bool operator==(const Drawn&) const = default;
};

// What the callbacks are told, kept in `to`.
TextRequest watched(TextRequest request, Drawn& to, bool probabilities) {
  request.on_text = [&to](std::string_view text) {
    to.text += text;
    return true;
  };
  if (probabilities) {
    request.on_token = [&to](int32_t token, std::span<const float> logits) {
      to.log_probabilities.push_back(log_probability(logits, token));
      return true;
    };
  }
  return request;
}

Drawn alone(const test::WeightsPointer& weights, uint64_t i) {
  Scheduler scheduler(weights, bytes(), {.most_running = 1, .most_queued = 1, .chunk = kChunk});
  Drawn drawn;
  auto ticket = scheduler.submit(watched(some_request(i), drawn, i % 2 == 0));
  REQUIRE(ticket);
  const GeneratedText text = ticket->text.get().text;
  CHECK(text.text == drawn.text);
  drawn.tokens = text.tokens;
  return drawn;
}

std::vector<int32_t> generated(const test::WeightsPointer& weights, uint64_t i) {
  Session session(weights);
  Session* const sessions[] = {&session};
  const TextRequest request = some_request(i);
  ReadOptions options;
  options.chunk = kChunk;
  return generate(sessions, *bytes(), {&request.prompt, 1}, request.config, {}, options).texts.front().tokens;
}

std::vector<Drawn> together(const test::WeightsPointer& weights, size_t running, uint64_t texts) {
  Scheduler scheduler(weights, bytes(), {.most_running = running, .most_queued = texts, .chunk = kChunk});
  std::vector<Drawn> drawn(texts);
  std::vector<Scheduler::Ticket> tickets;
  for (uint64_t i = 0; i < texts; ++i) {
    auto ticket = scheduler.submit(watched(some_request(i), drawn[i], i % 2 == 0));
    REQUIRE(ticket);
    tickets.push_back(std::move(*ticket));
  }
  for (uint64_t i = 0; i < texts; ++i) drawn[i].tokens = tickets[i].text.get().text.tokens;
  scheduler.drain();
  const SchedulerStatus status = scheduler.status();
  CHECK(status.ended == texts);
  CHECK(status.queued + status.reading + status.writing == 0);
  return drawn;
}

bool is_error(PendingText& text, ErrorKind kind) {
  try {
    text.get();
  } catch (const Error& error) {
    return error.kind() == kind;
  }
  return false;
}

}  // namespace

TEST_CASE("texts together are what each is alone, and what generate makes of its request") {
  constexpr uint64_t kTexts = 35;
  for (const DType dtype : {DType::f32, DType::bf16, DType::u8}) {
    CAPTURE(dtype);
    const test::WeightsPointer weights = small_weights(1, dtype);
    std::vector<Drawn> wanted;
    for (uint64_t i = 0; i < kTexts; ++i) {
      wanted.push_back(alone(weights, i));
      CHECK(generated(weights, i) == wanted.back().tokens);
    }
    for (const size_t running : {size_t{3}, size_t{16}, size_t{kTexts}})
      CHECK(together(running == 16 ? small_weights(3, dtype) : weights, running, kTexts) == wanted);
  }
}

TEST_CASE("a text in the memory of one before it, of any length, is what it is alone") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.most_running = 2, .chunk = kChunk});
  for (const uint64_t i : {6, 0, 13, 3, 20, 8, 6}) {
    TextRequest request = some_request(i);
    request.wants_session = false;
    const ServedText served = scheduler.submit(std::move(request))->text.get();
    CHECK(served.session == nullptr);
    CHECK(served.text.tokens == alone(weights, i).tokens);
  }
}

TEST_CASE("a text goes on from the session it left, as if it were one") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.chunk = kChunk});
  const auto whole = scheduler.submit(request_of(50, 3, 20))->text.get().text;
  ServedText first = scheduler.submit(request_of(50, 3, 8))->text.get();
  TextRequest more = request_of(0, 3, 12);
  more.from = std::move(first.session);
  more.continued = first.text.next;
  const ServedText second = scheduler.submit(std::move(more))->text.get();
  CHECK(first.text.text + second.text.text == whole.text);
  CHECK(second.session->position() == 50 + 20 - 1);
}

TEST_CASE("a long prompt does not stop the others") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.chunk = kChunk});
  std::atomic<bool> ended = false;
  TextRequest prompt = request_of(200 * kChunk, 1, 1);
  prompt.on_text = [&](std::string_view) {
    ended = true;
    return true;
  };
  auto slow = scheduler.submit(std::move(prompt));
  auto quick = scheduler.submit(request_of(2 * kChunk, 2, 40));
  CHECK(quick->text.get().text.tokens.size() == 40);
  CHECK_FALSE(ended);
  CHECK(slow->text.get().text.tokens.size() == 1);
  CHECK(scheduler.status().tokens_read == 202 * kChunk);
}

TEST_CASE("a full queue refuses and leaves the request as it was; so does a drained scheduler") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.most_running = 1, .most_queued = 1, .chunk = kChunk});
  std::mutex held;
  std::unique_lock hold(held);
  std::promise<void> begun;
  TextRequest blocking = request_of(5, 1, 1);
  blocking.on_text = [&](std::string_view) {
    begun.set_value();
    const std::lock_guard lock(held);
    return true;
  };
  auto running = scheduler.submit(std::move(blocking));
  begun.get_future().wait();
  auto queued = scheduler.submit(request_of(5, 2));
  REQUIRE(queued);
  TextRequest refused = request_of(9, 3);
  refused.from = std::make_shared<Session>(weights);
  // NOLINTBEGIN(bugprone-use-after-move): what is refused is not moved from
  CHECK_FALSE(scheduler.submit(std::move(refused)));
  CHECK(refused.prompt == some_prompt(9));
  CHECK(refused.from);
  CHECK(scheduler.status().queued == 1);
  scheduler.cancel(queued->id);
  hold.unlock();
  CHECK(running->text.get().text.finish == FinishReason::length);
  CHECK(queued->text.get().text.finish == FinishReason::cancelled);
  scheduler.drain();
  CHECK_FALSE(scheduler.submit(std::move(refused)));
  // NOLINTEND(bugprone-use-after-move)
}

TEST_CASE("without a queue as many texts are taken as run at once") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.most_running = 2, .most_queued = 0, .chunk = kChunk});
  for (uint64_t round = 0; round < 5; ++round) {
    std::vector<Scheduler::Ticket> tickets;
    for (uint64_t i = 0; i < 2; ++i) {
      auto ticket = scheduler.submit(request_of(5, i, 1000000));
      REQUIRE(ticket);
      tickets.push_back(std::move(*ticket));
    }
    CHECK_FALSE(scheduler.submit(request_of(5, 3)));
    for (Scheduler::Ticket& ticket : tickets) scheduler.cancel(ticket.id);
    for (Scheduler::Ticket& ticket : tickets) ticket.text.get();
    while (scheduler.status().ended < uint64_t{2} * (round + 1)) std::this_thread::yield();
  }
}

TEST_CASE("cancelled texts keep what they have, and the others go on") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.chunk = kChunk});
  const auto whole = scheduler.submit(request_of(20, 5, 30))->text.get().text;
  TextRequest ends_itself = request_of(20, 5, 30);
  int64_t told = 0;
  ends_itself.on_text = [&](std::string_view) { return ++told < 7; };
  auto short_text = scheduler.submit(std::move(ends_itself));
  auto other = scheduler.submit(request_of(20, 5, 30));
  const GeneratedText kept = short_text->text.get().text;
  CHECK(kept.finish == FinishReason::cancelled);
  CHECK(kept.tokens == std::vector<int32_t>(whole.tokens.begin(), whole.tokens.begin() + 7));
  CHECK(other->text.get().text.tokens == whole.tokens);
  scheduler.cancel(other->id);
  scheduler.cancel(12345);
}

TEST_CASE("a scheduler that goes ends its texts as cancelled") {
  std::vector<PendingText> texts;
  {
    Scheduler scheduler(small_weights(), bytes(), {.most_running = 2, .chunk = kChunk});
    for (uint64_t i = 0; i < 6; ++i)
      texts.push_back(std::move(scheduler.submit(request_of(30, i, 100000))->text));
  }
  for (PendingText& text : texts) CHECK(text.get().text.finish == FinishReason::cancelled);
}

TEST_CASE("what is wrong with one request disturbs no other") {
  const test::WeightsPointer weights = small_weights();
  Scheduler scheduler(weights, bytes(), {.chunk = kChunk});
  const auto wanted = scheduler.submit(request_of(10, 4, 20))->text.get().text.tokens;
  auto other = scheduler.submit(request_of(10, 4, 20));

  TextRequest nothing_left = request_of(10, 1);
  for (int64_t token = 0; token < 256; ++token) nothing_left.config.suppress_tokens.push_back(token);
  auto impossible = scheduler.submit(std::move(nothing_left));
  TextRequest throws = request_of(10, 1);
  throws.on_text = [](std::string_view) -> bool { throw Error(ErrorKind::io, "the client has gone"); };
  auto thrown = scheduler.submit(std::move(throws));
  CHECK(is_error(impossible->text, ErrorKind::invalid_argument));
  CHECK(is_error(thrown->text, ErrorKind::io));
  TextRequest throws_other = request_of(10, 1);
  throws_other.on_text = [](std::string_view) -> bool { throw std::runtime_error("gone"); };
  CHECK(is_error(scheduler.submit(std::move(throws_other))->text, ErrorKind::cancelled));
  CHECK(other->text.get().text.tokens == wanted);

  CHECK_THROWS_WITH_AS(scheduler.submit(request_of(0, 1)), doctest::Contains("prompt is empty"), Error);
  TextRequest several = request_of(3, 1);
  several.config.num_return_sequences = 2;
  CHECK_THROWS_WITH_AS(scheduler.submit(std::move(several)), doctest::Contains("num_return_sequences"),
                       Error);
  TextRequest foreign = request_of(3, 1);
  foreign.from = std::make_shared<Session>(small_weights());
  CHECK_THROWS_WITH_AS(scheduler.submit(std::move(foreign)), doctest::Contains("other weights"), Error);
  TextRequest at_the_end = request_of(3, 1);
  Session far_on(weights);
  far_on.start_at((int64_t{1} << 53) - 10);
  at_the_end.from = std::make_shared<Session>(std::move(far_on));
  CHECK_THROWS_WITH_AS(scheduler.submit(std::move(at_the_end)), doctest::Contains("2^53"), Error);
  CHECK_THROWS_AS(Scheduler(weights, bytes(), {.most_running = 0}), Error);
  CHECK(scheduler.submit(request_of(10, 4, 20))->text.get().text.tokens == wanted);
}

TEST_CASE("many threads submit, watch and cancel at once") {
  const test::WeightsPointer weights = small_weights(2);
  Scheduler scheduler(weights, bytes(), {.most_running = 4, .most_queued = 6, .chunk = kChunk});
  const auto wanted = scheduler.submit(request_of(20, 7, 10))->text.get().text.tokens;
  std::atomic<int> right = 0, refused = 0, cancelled = 0, wrong = 0;
  const auto client = [&](int number) {
    for (int i = 0; i < 12; ++i) {
      auto ticket = scheduler.submit(request_of(20, 7, 10));
      if (!ticket) {
        ++refused;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      if ((i + number) % 4 == 0) scheduler.cancel(ticket->id);
      const GeneratedText text = ticket->text.get().text;
      (text.finish == FinishReason::cancelled ? cancelled : text.tokens == wanted ? right : wrong)++;
      scheduler.status();
    }
  };
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) clients.emplace_back(client, i);
  for (std::thread& one : clients) one.join();
  CHECK(wrong == 0);
  CHECK(right > 0);
  CHECK(right + refused + cancelled == 8 * 12);
}
