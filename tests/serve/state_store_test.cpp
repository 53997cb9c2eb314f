// States by name and the beginnings of prompts: the same text with them as without, and what is kept.
#include "bdh/serve/state_store.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/serve/scheduler.h"
#include "kernels/cpu/backend.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"

using namespace bdh;

namespace {

constexpr int64_t kChunk = 16;
constexpr uint64_t kMuch = uint64_t{1} << 30;

test::WeightsPointer small_weights() {
  static const test::WeightsPointer weights = test::random_weights(
      test::config_of(2, 32, 2, 4), cpu::make_backend({.threads = 1, .isa = ""}), DType::f32);
  return weights;
}

std::vector<int32_t> tokens_of(size_t count, int32_t first) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back((first + static_cast<int32_t>(i * 7)) % 256);
  return tokens;
}

KeptState state_after(size_t count) {
  auto session = std::make_shared<Session>(small_weights());
  session->read(tokens_of(count, 1));
  return {std::move(session), {.unread = {5}, .seed = 9, .step = 3}};
}

std::vector<float> after(const KeptState& state) {
  return Session(state.session->clone()).read(std::vector<int32_t>{7, 8});
}

struct Served {
  std::vector<int32_t> tokens;
  int64_t cached;
};

Served serve(Scheduler& scheduler, std::vector<int32_t> prompt) {
  TextRequest request;
  request.prompt_tokens = std::move(prompt);
  request.config.max_new_tokens = 6;
  request.config.sampling.seed = 3;
  const ServedText served = scheduler.submit(std::move(request))->text.get();
  return {served.text.tokens, served.cached_tokens};
}

struct CachedScheduler {
  std::shared_ptr<StateStore> store;
  std::unique_ptr<Scheduler> scheduler;

  explicit CachedScheduler(const StateStoreOptions& options, uint64_t prompt_bytes = kMuch,
                           const test::WeightsPointer& weights = small_weights())
      : store(std::make_shared<StateStore>(options)) {
    const SchedulerOptions with_cache{
        .chunk = kChunk, .prefix_cache = std::make_shared<PrefixCache>(store, kChunk, prompt_bytes)};
    scheduler = std::make_unique<Scheduler>(weights, std::make_shared<ByteTokenizer>(), with_cache);
  }
};

// The CPU's, whose states are as slow to make as a test wants.
class SlowBackend : public Backend {
 public:
  std::string name() const override { return cpu_->name(); }
  int64_t prefill_tokens() const override { return cpu_->prefill_tokens(); }
  int64_t few_tokens(int64_t position) const override { return cpu_->few_tokens(position); }
  MemoryNeed memory(const Dimensions& dims, DType dtype, int64_t tokens, DType s) const override {
    return cpu_->memory(dims, dtype, tokens, s);
  }
  std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) override {
    return cpu_->pack(parameters, dtype);
  }
  std::unique_ptr<State> new_state(const Packed& packed, const StateOptions& options) override {
    before_state();
    return cpu_->new_state(packed, options);
  }
  void read(const Packed& packed, const Read& read) override { cpu_->read(packed, read); }

  std::function<void()> before_state = [] {};

 private:
  std::shared_ptr<Backend> cpu_ = cpu::make_backend({.threads = 1, .isa = ""});
};

// A number that another thread waits for.
class Count {
 public:
  void add() {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  // Whether it has grown by that much within a minute.
  bool grows_by(int64_t amount) {
    std::unique_lock lock(mutex_);
    const int64_t until = count_ + amount;
    return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return count_ >= until; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t count_ = 0;
};

std::vector<int32_t> prompt_of(size_t common, size_t own, int32_t which) {
  std::vector<int32_t> prompt = tokens_of(common, 1);
  const std::vector<int32_t> rest = tokens_of(own, 100 + which);
  prompt.insert(prompt.end(), rest.begin(), rest.end());
  return prompt;
}

}  // namespace

TEST_CASE("states are kept by name, the same ones; those used longest ago go first") {
  const KeptState state = state_after(40);
  const size_t bytes = state.session->bytes();
  StateStore store({.max_bytes = 3 * bytes});
  for (const char* name : {"a", "b", "c"}) CHECK(store.keep(name, state));
  CHECK(store.bytes() == 3 * bytes);
  const auto found = store.find("a", small_weights());
  REQUIRE(found);
  CHECK(after(*found) == after(state));
  CHECK(found->text.unread == state.text.unread);
  CHECK(store.keep("d", state));
  CHECK_FALSE(store.contains("b"));
  CHECK(store.contains("a"));
  CHECK(store.list().size() == 3);
  CHECK(store.keep("a", state_after(41)));
  CHECK(store.find("a", small_weights())->session->position() == 41);
  CHECK(store.remove("a"));
  CHECK_FALSE(store.remove("a"));
  CHECK_FALSE(store.find("a", small_weights()));
  CHECK_FALSE(StateStore({.max_bytes = bytes - 1}).keep("e", state));
  const Weights* own[] = {small_weights().get()};
  store.keep_those_of(own);
  CHECK(store.bytes() > 0);
  store.keep_those_of({});
  CHECK(store.bytes() == 0);
}

TEST_CASE("a directory keeps states for other processes, with the bits they had") {
  const test::TemporaryDirectory folder;
  const KeptState state = state_after(40);
  {
    StateStore store({.max_bytes = kMuch, .directory = folder / "states"});
    CHECK(store.keep("now", state));
    CHECK(store.keep_soon("soon", state));
  }
  StateStore store({.max_bytes = kMuch, .directory = folder / "states"});
  CHECK(store.list().size() == 2);
  for (const char* name : {"now", "soon"}) {
    const auto found = store.find(name, small_weights());
    REQUIRE(found);
    CHECK(after(*found) == after(state));
    CHECK(found->text.seed == 9);
    CHECK(found->text.step == 3);
  }
  CHECK(store.remove("now"));
  CHECK_FALSE(store.contains("now"));
  std::ofstream(folder / "states" / "damaged.session") << "no session";
  CHECK_THROWS_AS(store.find("damaged", small_weights()), Error);
  std::ofstream(folder / "file") << "";
  CHECK_THROWS_WITH_AS(StateStore({.directory = folder / "file"}), doctest::Contains("cannot keep sessions"),
                       Error);
}

TEST_CASE("what one process keeps, replaces or removes in a directory is so for the others, at once") {
  const test::TemporaryDirectory folder;
  const auto position_in = [](StateStore& store, const char* name) {
    const auto found = store.find(name, small_weights());
    return found ? found->session->position() : -1;
  };
  StateStore one({.max_bytes = kMuch, .directory = folder / "states"});
  StateStore other({.max_bytes = kMuch, .directory = folder / "states"});
  for (int64_t turn = 40; turn < 46; ++turn) {  // of one conversation, here and there
    StateStore& now = turn % 2 == 0 ? one : other;
    CHECK(now.keep("s", state_after(static_cast<size_t>(turn))));
    for (StateStore* store : {&one, &other}) CHECK(position_in(*store, "s") == turn);
  }
  CHECK(other.list().size() == 1);
  CHECK(other.list().front().position == 45);
  CHECK(one.keep("s", state_after(50)));
  CHECK_FALSE(other.list().front().position);  // what is in its memory is another's by now
  CHECK(one.remove("s"));
  CHECK_FALSE(other.contains("s"));
  CHECK(other.list().empty());
  CHECK(position_in(other, "s") == -1);
  CHECK_FALSE(other.remove("s"));
  CHECK(other.bytes() == 0);
}

TEST_CASE("what is larger than memory may have is in the directory alone, which has a bound too") {
  const test::TemporaryDirectory folder;
  const KeptState state = state_after(40);
  StateStore store({.max_bytes = 1, .directory = folder / "states"});
  CHECK(store.keep("a", state));
  CHECK(store.bytes() == 0);
  CHECK(after(*store.find("a", small_weights())) == after(state));
  StateStore none({.max_bytes = 1, .directory = folder / "none", .max_directory_bytes = 1});
  CHECK_FALSE(none.keep("a", state));
  CHECK(none.list().empty());
}

TEST_CASE("prompts that begin alike are read from where they part, and give the text they give alone") {
  const auto served = [&](Scheduler& scheduler, const std::vector<int32_t>& prompt) {
    Scheduler alone(small_weights(), std::make_shared<ByteTokenizer>(), {.chunk = kChunk});
    const Served with = serve(scheduler, prompt);
    CHECK(with.tokens == serve(alone, prompt).tokens);
    return with.cached;
  };
  for (const bool on_disk : {false, true}) {
    CAPTURE(on_disk);
    const test::TemporaryDirectory folder;
    const StateStoreOptions options{.max_bytes = kMuch, .directory = on_disk ? folder / "states" : ""};
    {
      const CachedScheduler cached(options);
      Scheduler& scheduler = *cached.scheduler;
      CHECK(served(scheduler, prompt_of(1000, 10, 1)) == 0);
      CHECK(served(scheduler, prompt_of(1000, 10, 1)) == 1008);  // the last token is always read
      CHECK(served(scheduler, prompt_of(1000, 10, 2)) == 992);   // the grid's last point before they part
      CHECK(served(scheduler, prompt_of(1000, 200, 3)) == 992);
      CHECK(served(scheduler, prompt_of(700, 100, 4)) == 496);  // the last that was kept before
      CHECK(served(scheduler, prompt_of(700, 100, 5)) == 688);  // and now where they part
      CHECK(served(scheduler, prompt_of(0, kChunk, 6)) == 0);
      CHECK(served(scheduler, prompt_of(0, kChunk + 1, 7)) == 0);
      CHECK(scheduler.status().tokens_cached == 1008 + 992 + 992 + 496 + 688);
    }
    const CachedScheduler later(options);
    CHECK(served(*later.scheduler, prompt_of(1000, 10, 1)) == (on_disk ? 1008 : 0));
  }
}

TEST_CASE("while the beginning of a prompt is read from a file the other texts go on") {
  const test::TemporaryDirectory folder;
  const StateStoreOptions options{.max_bytes = kMuch, .directory = folder / "states"};
  const auto backend = std::make_shared<SlowBackend>();
  const test::WeightsPointer weights =
      test::random_weights(test::config_of(2, 32, 2, 4), backend, DType::f32);
  const std::vector<int32_t> prompt = prompt_of(1000, 10, 1);
  const Served alone = serve(*CachedScheduler(options, kMuch, weights).scheduler, prompt);
  CHECK(alone.cached == 0);

  Count drawn;
  std::atomic<int> states = 0;
  std::atomic<bool> went_on = false;
  const CachedScheduler cached(options, kMuch, weights);
  TextRequest endless;
  endless.prompt_tokens = {1};
  endless.config.max_new_tokens = int64_t{1} << 40;
  endless.on_token = [&](int32_t, std::span<const float>) {
    drawn.add();
    return true;
  };
  auto other = cached.scheduler->submit(std::move(endless));
  REQUIRE(drawn.grows_by(1));
  backend->before_state = [&] {
    if (++states == 2) went_on = drawn.grows_by(5);  // the first is the text's own, the second the file's
  };
  const Served served = serve(*cached.scheduler, prompt);
  CHECK(states == 2);
  CHECK(went_on);
  CHECK(served.cached == 1008);
  CHECK(served.tokens == alone.tokens);

  backend->before_state = [&] {  // cancelled meanwhile
    if (++states == 4) cached.scheduler->cancel(3);
  };
  cached.store->keep_those_of({});
  TextRequest cancelled;
  cancelled.prompt_tokens = prompt;
  auto third = cached.scheduler->submit(std::move(cancelled));
  CHECK(third->id == 3);
  CHECK(third->text.get().text.finish == FinishReason::cancelled);
  cached.scheduler->cancel(other->id);
  CHECK(other->text.get().text.finish == FinishReason::cancelled);
}

TEST_CASE("the states of one prompt take no more than they may") {
  const CachedScheduler cached({.max_bytes = kMuch}, 3 * most_session_bytes(*small_weights()));
  serve(*cached.scheduler, prompt_of(1000, 10, 1));
  CHECK(cached.store->list().size() == 3);
}

TEST_CASE("the rows of a prompt: the logits after each token and x, as they are without a scheduler") {
  const std::vector<int32_t> prompt = tokens_of(50, 1);
  Scheduler scheduler(small_weights(), std::make_shared<ByteTokenizer>(), {.chunk = kChunk});
  std::vector<float> logits, x;
  TextRequest request;
  request.prompt_tokens = prompt;
  request.config.max_new_tokens = 1;
  request.config.sampling.do_sample = false;
  request.prompt_logits = request.prompt_x = true;
  request.on_prompt = [&](const PromptPart& part) {
    logits.insert(logits.end(), part.logits.begin(), part.logits.end());
    x.insert(x.end(), part.x.begin(), part.x.end());
  };
  const ServedText served = scheduler.submit(std::move(request))->text.get();
  ReadOptions options;
  options.chunk = kChunk;
  Session session(small_weights());
  CHECK(session.read_all(prompt, options) == logits);
  CHECK(x.size() == 50 * 32);
  double sum = 0, squares = 0;
  for (size_t i = 0; i < 32; ++i) {
    sum += x[i];
    squares += double{x[i]} * x[i];
  }
  CHECK(std::abs(sum) < 1e-4);
  CHECK(std::abs(squares - 32) < 1e-2);
  const auto best = std::max_element(logits.end() - 256, logits.end()) - (logits.end() - 256);
  CHECK(served.text.tokens == std::vector<int32_t>{static_cast<int32_t>(best)});
}
