// The watch over ranks, on processes that do nothing.
#include "tools/ranks/rank_watch.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <vector>

namespace {

using bdh::tools::RankProcess;
using bdh::tools::RankWatch;

/// Ranks 1, 2 and 3, which sleep, and 4, whose process is not known.
struct Sleepers {
  std::vector<RankProcess> ranks;

  Sleepers() {
    for (int rank = 1; rank <= 3; ++rank) ranks.push_back({rank, start()});
    ranks.push_back({4, 0});
  }
  ~Sleepers() {
    for (int rank = 1; rank <= 3; ++rank) {
      kill(rank);
      waitpid(process(rank), nullptr, 0);
    }
  }

  static pid_t start() {
    const pid_t process = fork();
    if (process != 0) return process;
    pause();
    _exit(0);
  }
  pid_t process(int rank) const { return ranks[static_cast<size_t>(rank - 1)].process; }
  void kill(int rank) const { ::kill(process(rank), SIGKILL); }
};

}  // namespace

TEST_CASE("the watch over ranks names the one that has ended") {
  const Sleepers sleepers;
  RankWatch watch(sleepers.ranks);
  std::promise<int> ended;
  watch.start([&](int rank) { ended.set_value(rank); });
  CHECK_FALSE(watch.wait_for_end(2, 0));
  sleepers.kill(2);
  CHECK(ended.get_future().get() == 2);
  CHECK(watch.wait_for_end(2, 0));
  CHECK_FALSE(watch.wait_for_end(1, 0));
  CHECK_FALSE(watch.wait_for_end(4, 0));
  CHECK_FALSE(watch.wait_for_end(5, 0));
}

TEST_CASE("a watch over ranks that was stopped says nothing") {
  const Sleepers sleepers;
  RankWatch watch(sleepers.ranks);
  bool told = false;
  watch.start([&](int) { told = true; });
  watch.stop();
  sleepers.kill(1);
  CHECK(watch.wait_for_end(1, 60'000));
  CHECK_FALSE(told);
}
