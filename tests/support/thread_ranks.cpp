// A queue of messages for each pair of ranks.
#include "tests/support/thread_ranks.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "bdh/base/error.h"

namespace bdh::test {

namespace {

using Message = std::vector<std::byte>;

class Post {
 public:
  explicit Post(int count) : ended_(static_cast<size_t>(count)) {}

  void send(int from, int to, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    queues_[{from, to}].emplace_back(bytes.begin(), bytes.end());
    arrived_.notify_all();
  }

  Message receive(int from, int to) {
    std::unique_lock lock(mutex_);
    std::deque<Message>& queue = queues_[{from, to}];
    arrived_.wait(lock, [&] { return !queue.empty() || ended_[static_cast<size_t>(from)]; });
    if (queue.empty()) fail(ErrorKind::io, "rank ", from, " is gone");
    Message message = std::move(queue.front());
    queue.pop_front();
    return message;
  }

  void end(int rank) {
    const std::lock_guard lock(mutex_);
    ended_[static_cast<size_t>(rank)] = true;
    arrived_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::pair<int, int>, std::deque<Message>> queues_;
  std::vector<bool> ended_;
};

class ThreadRank : public Ranks {
 public:
  ThreadRank(Post& post, int rank, int size) : post_(post), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void send(std::span<const std::byte> bytes, int to) override { post_.send(rank_, to, bytes); }
  void receive(std::span<std::byte> bytes, int from) override {
    const Message message = post_.receive(from, rank_);
    if (message.size() != bytes.size())
      fail(ErrorKind::io, "rank ", from, " sent ", message.size(), " bytes, not ", bytes.size());
    std::copy(message.begin(), message.end(), bytes.begin());
  }
  void broadcast(std::span<std::byte> bytes) override {
    if (rank_ != 0) return receive(bytes, 0);
    for (int to = 1; to < size_; ++to) send(bytes, to);
  }
  void barrier() override {
    std::byte token{};
    if (rank_ != 0) send({&token, 1}, 0);
    for (int from = 1; rank_ == 0 && from < size_; ++from) receive({&token, 1}, from);
    broadcast({&token, 1});
  }

 private:
  Post& post_;
  int rank_, size_;
};

}  // namespace

void run_ranks(int count, const std::function<void(Ranks&)>& body) {
  Post post(count);
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(count));
  const auto run = [&](int rank) {
    ThreadRank ranks(post, rank, count);
    try {
      body(ranks);
    } catch (...) {
      thrown[static_cast<size_t>(rank)] = std::current_exception();
    }
    post.end(rank);
  };
  std::vector<std::thread> threads;
  for (int rank = 1; rank < count; ++rank) threads.emplace_back(run, rank);
  run(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : thrown)
    if (error) std::rethrow_exception(error);
}

}  // namespace bdh::test
