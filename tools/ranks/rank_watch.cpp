// A descriptor of a process is readable once the process has ended.
#include "tools/ranks/rank_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

namespace bdh::tools {
namespace {

/// -1, which poll() passes over, where there is none.
int open_process(pid_t process) { return static_cast<int>(syscall(SYS_pidfd_open, process, 0)); }

bool wait(std::vector<pollfd>& descriptors, int milliseconds) {
  int ready = 0;
  do {
    ready = poll(descriptors.data(), descriptors.size(), milliseconds);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

}  // namespace

struct RankWatch::Watched {
  std::vector<int> ranks;
  std::vector<pollfd> descriptors;  // one for each rank, then what stop() writes to
  std::thread thread;
};

RankWatch::RankWatch(const std::vector<RankProcess>& processes) : watched_(std::make_unique<Watched>()) {
  for (const RankProcess& process : processes) {
    watched_->ranks.push_back(process.rank);
    watched_->descriptors.push_back({open_process(process.process), POLLIN, 0});
  }
  watched_->descriptors.push_back({eventfd(0, EFD_CLOEXEC), POLLIN, 0});
}

RankWatch::~RankWatch() {
  stop();
  for (const pollfd& descriptor : watched_->descriptors)
    if (descriptor.fd >= 0) close(descriptor.fd);
}

void RankWatch::start(std::function<void(int rank)> ended) {
  watched_->thread = std::thread([watched = watched_.get(), ended = std::move(ended)] {
    std::vector<pollfd> descriptors = watched->descriptors;
    wait(descriptors, -1);
    if (descriptors.back().revents != 0) return;
    for (size_t i = watched->ranks.size(); i-- > 0;)
      if (descriptors[i].revents != 0) return ended(watched->ranks[i]);
  });
}

void RankWatch::stop() {
  if (!watched_->thread.joinable()) return;
  eventfd_write(watched_->descriptors.back().fd, 1);
  watched_->thread.join();
}

bool RankWatch::wait_for_end(int rank, int milliseconds) const {
  for (size_t i = 0; i < watched_->ranks.size(); ++i) {
    if (watched_->ranks[i] != rank) continue;
    std::vector<pollfd> descriptors{watched_->descriptors[i]};
    return wait(descriptors, milliseconds);
  }
  return false;
}

}  // namespace bdh::tools
