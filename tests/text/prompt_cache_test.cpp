// The prompt cache: the same logits with it as without, what it keeps, and that nothing wrong with its files
// stops a text.
#include "bdh/text/prompt_cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "bdh/base/error.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"

using namespace bdh;
using namespace bdh::test;

namespace {

namespace fs = std::filesystem;

constexpr int64_t kGrid = 8;
constexpr uint64_t kMuch = uint64_t{1} << 30;
const Config kConfig = config_of(2, 16, 2, 4, 50);

struct CacheRun {
  TemporaryDirectory directory;
  WeightsPointer weights = random_weights(kConfig, backend());
  std::vector<float> horizon;
  uint64_t max_bytes = kMuch;
  std::vector<std::string> warnings;

  /// The logits after the prompt, and how many tokens were there already.
  std::pair<std::vector<float>, int64_t> read(const std::vector<int32_t>& prompt) {
    PromptCache cache(directory / "cache", max_bytes,
                      [&](const std::string& text) { warnings.push_back(text); });
    Session session(weights, {.horizon = horizon});
    std::vector<int64_t> reports;
    ReadOptions options;
    options.progress = [&](int64_t done, int64_t) {
      reports.push_back(done);
      return true;
    };
    const int64_t done = cache.read(session, prompt, kGrid, options);
    const int64_t read_now = reports.empty() ? 0 : done - (reports.front() - kGrid);
    return {session.read(std::span(prompt).subspan(static_cast<size_t>(done)), in_form(Form::chunked, kGrid)),
            done - read_now};
  }
  std::vector<float> plain(const std::vector<int32_t>& prompt) const {
    return Session(weights, {.horizon = horizon}).read(prompt, in_form(Form::chunked, kGrid));
  }
  std::vector<fs::path> sessions() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(directory / "cache"))
      if (entry.path().extension() == ".session") found.push_back(entry.path());
    return found;
  }
};

std::vector<int32_t> with_end(std::vector<int32_t> prompt, size_t kept, size_t length) {
  for (size_t i = kept; i < length; ++i) prompt[i] = (prompt[i] + 1) % 50;
  prompt.resize(length);
  return prompt;
}

}  // namespace

TEST_CASE("prompt cache: a prompt is read from where it parts with an earlier one, with the same bits") {
  for (const auto& horizon : {std::vector<float>{}, {5}}) {
    CacheRun run;
    run.horizon = horizon;
    const std::vector<int32_t> prompt = some_tokens(60, 50);
    const auto check = [&](const std::vector<int32_t>& given, int64_t cached) {
      const auto [logits, done] = run.read(given);
      CHECK(done == cached);
      CHECK(logits == run.plain(given));
    };
    check(prompt, 0);
    check(prompt, 56);
    check(with_end(prompt, 60, 58), 56);
    check(with_end(prompt, 35, 60), 0);  // its first 32 tokens were seen, and are kept now
    check(with_end(prompt, 33, 50), 32);
    check(with_end(prompt, 3, 5), 0);
  }
}

TEST_CASE("prompt cache: other weights, horizons and texts are no hits") {
  CacheRun run;
  const std::vector<int32_t> prompt = some_tokens(40, 50);
  run.read(prompt);
  run.horizon = {9};
  CHECK(run.read(prompt).second == 0);
  CHECK(run.read(prompt).second == 32);
  run.weights = std::make_shared<const Weights>(kConfig, random_state_dict(kConfig, 5), backend());
  CHECK(run.read(prompt).second == 0);
}

TEST_CASE("prompt cache: bounded in bytes, those used last stay") {
  CacheRun run;
  run.max_bytes = 3 * Session(run.weights).bytes();
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 6; ++i) prompts.emplace_back(20, i);
  for (const auto& prompt : prompts) run.read(prompt);
  uint64_t bytes = 0;
  for (const fs::path& path : run.sessions()) bytes += fs::file_size(path);
  CHECK(bytes <= run.max_bytes);
  CHECK(run.read(prompts.back()).second == 16);
  run.max_bytes = 10;
  CHECK(run.read(std::vector<int32_t>(20, 9)).first == run.plain(std::vector<int32_t>(20, 9)));
  CHECK(run.warnings.empty());
}

TEST_CASE("prompt cache: a damaged, cut or vanished file is a miss, and is replaced") {
  const std::vector<int32_t> prompt = some_tokens(40, 50);
  for (const char* content : {"", "nothing", "\x10\0\0\0\0\0\0\0{}              "}) {
    CacheRun run;
    run.read(prompt);
    REQUIRE(run.sessions().size() == 1);
    write_file(run.sessions()[0], content);
    const auto [logits, done] = run.read(prompt);
    CHECK(done == 0);
    CHECK(logits == run.plain(prompt));
    CHECK(run.read(prompt).second == 32);
  }
}

TEST_CASE("prompt cache: where nothing can be written the text goes on, and that is told once") {
  CacheRun run;
  const std::vector<int32_t> prompt = some_tokens(40, 50);
  run.read(prompt);
  fs::remove_all(run.directory / "cache");
  PromptCache cache(run.directory / "cache", kMuch,
                    [&](const std::string& text) { run.warnings.push_back(text); });
  fs::remove(run.directory / "cache");
  for (int i = 0; i < 2; ++i) {
    Session session(run.weights);
    CHECK(cache.read(session, prompt, kGrid, {}) == 32);
  }
  REQUIRE(run.warnings.size() == 1);
  CHECK(run.warnings[0].find("the prompt cache keeps nothing: ") == 0);
  write_file(run.directory / "file", "");
  CHECK_THROWS_AS(PromptCache(run.directory / "file", kMuch), Error);
}

TEST_CASE("prompt cache: several use one directory at once") {
  CacheRun run;
  run.max_bytes = 2 * Session(run.weights).bytes();
  const std::vector<int32_t> prompt = some_tokens(60, 50);
  std::vector<std::thread> threads;
  std::vector<int> right(4);
  for (size_t t = 0; t < right.size(); ++t) {
    threads.emplace_back([&, t] {
      PromptCache cache(run.directory / "cache", run.max_bytes);
      for (size_t i = 0; i < 6; ++i) {
        const std::vector<int32_t> own = with_end(prompt, 10 + 8 * (i + t) % 40, 59);
        Session session(run.weights);
        const auto done = static_cast<size_t>(cache.read(session, own, kGrid, {}));
        right[t] +=
            session.read(std::span(own).subspan(done), in_form(Form::chunked, kGrid)) == run.plain(own);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == std::vector<int>{6, 6, 6, 6});
}
