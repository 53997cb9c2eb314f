// One process by itself.
#include "bdh/train/ranks.h"

#include "bdh/base/error.h"

namespace bdh {

namespace {

class SingleRank : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void send(std::span<const std::byte>, int to) override { fail_alone(to); }
  void receive(std::span<std::byte>, int from) override { fail_alone(from); }
  void broadcast(std::span<std::byte>) override {}
  void barrier() override {}

 private:
  [[noreturn]] static void fail_alone(int other) {
    fail(ErrorKind::invalid_argument, "there is no rank ", other, ": this run has one process");
  }
};

}  // namespace

std::unique_ptr<Ranks> single_rank() { return std::make_unique<SingleRank>(); }

}  // namespace bdh
