// The thread pool: every index once, on any number of threads, loop after loop.
#include "bdh/base/threads.h"

#include <doctest/doctest.h>

#include <atomic>
#include <vector>

#include "bdh/base/error.h"

using namespace bdh;

TEST_CASE("every index is called once, loop after loop") {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int64_t count : {0, 1, 2, 7, 1000}) {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
        std::atomic<int> outside{0};
        pool.run(count, [&](int64_t i, int worker) {
          calls[static_cast<size_t>(i)].fetch_add(1);
          outside += worker < 0 || worker >= threads;
        });
        int wrong = 0;
        for (const auto& called : calls) wrong += called.load() != 1;
        REQUIRE(wrong == 0);
        REQUIRE(outside.load() == 0);
      }
    }
  }
}

TEST_CASE("what a loop writes is seen after it") {
  ThreadPool pool(4);
  std::vector<int64_t> values(257, 0);
  for (int64_t round = 1; round <= 2000; ++round) {
    pool.run(257, [&](int64_t i, int) { values[static_cast<size_t>(i)] += i; });
  }
  for (int64_t i = 0; i < 257; ++i) REQUIRE(values[static_cast<size_t>(i)] == 2000 * i);
}

TEST_CASE("a pool takes the cores there are by default, and no absurd number") {
  CHECK(ThreadPool().threads() == available_cores());
  CHECK(available_cores() >= 1);
  CHECK_THROWS_AS(ThreadPool(100000), Error);
}
