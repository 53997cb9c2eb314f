// Exchange: what the ranks of a run tell each other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/tensor.h"
#include "bdh/train/gradient_tree.h"
#include "bdh/train/ranks.h"

namespace bdh {

/// Every call but alone() and first() is made by all ranks, in the same order.
class Exchange {
 public:
  explicit Exchange(Ranks& ranks) : ranks_(ranks) {}

  /// Lets planes go from device to device where each rank has one of its own that can. Before the first
  /// plane.
  void connect(Training& training);

  bool alone() const { return ranks_.size() == 1; }
  /// Rank 0, which sums, updates, writes and reports.
  bool first() const { return ranks_.rank() == 0; }
  /// The numbers [begin, end) of `count` that are this rank's; the ranks divide the count.
  struct Share {
    int64_t begin = 0, end = 0;
  };
  Share share_of(int64_t count) const { return share_of(count, ranks_.rank()); }

  /// Whether the number is this rank's where ranks take turns.
  bool has(int64_t number) const { return number % ranks_.size() == ranks_.rank(); }

  /// Does this rank's part, then learns how the others fared, so that none waits for one that has left.
  /// work() says whether to go on; false is returned where it was false on any rank. Throws what work()
  /// threw, and on the other ranks an Error of its kind, else io, that names the rank and says the same.
  template <class Work>
  bool together(const Work& work) {
    std::exception_ptr thrown;
    Report mine;
    try {
      mine.verdict = work() ? Verdict::go_on : Verdict::stop;
    } catch (const Error& error) {
      thrown = std::current_exception();
      mine = failure(error.kind(), error.what());
    } catch (const std::exception& error) {
      thrown = std::current_exception();
      mine = failure(ErrorKind::io, error.what());
    }
    const Report worst = worst_of(mine);
    if (thrown) std::rethrow_exception(thrown);
    return goes_on(worst);
  }

  /// The same for work that a backend ends with Error(cancelled) where a stop is asked for: false.
  template <class Work>
  bool together_or_stop(const Work& work) {
    return together([&] {
      try {
        return work();
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::cancelled) throw;
        return false;
      }
    });
  }

  /// Brings the nodes of all ranks into rank 0's tree.
  void gather(GradientTree& tree, Training& training);
  /// Rank 0's numbers to all.
  void share(Training& training, Plane& plane);
  template <class Value>
  void share(Value& value) {
    ranks_.broadcast(std::as_writable_bytes(std::span(&value, 1)));
  }
  /// sums[i] is known to the rank that has(i); all know all afterwards.
  void share_all(std::vector<LossSum>& sums);
  /// One tensor of the same shape for each of the numbers that ranks share: rank 0 gets those of all, in the
  /// order of numbers; others none.
  std::vector<Tensor> gather(std::vector<Tensor> mine);

 private:
  enum class Verdict : uint8_t { go_on, stop, failed };
  struct Report {
    Verdict verdict = Verdict::go_on;
    int rank = 0;
    ErrorKind kind = ErrorKind::io;
    std::array<char, 512> text{};  // with a zero at its end
  };

  Share share_of(int64_t count, int rank) const;
  Report failure(ErrorKind kind, std::string_view text) const;
  Report worst_of(Report mine);
  bool goes_on(const Report& worst) const;
  void send_nodes(const GradientTree& tree, Training& training);
  void receive_nodes(GradientTree& tree, Training& training, int from);

  bool can_link(const std::string& device);
  void send(const Plane& plane, Training& training);
  void receive(Plane& plane, Training& training, int from);

  Ranks& ranks_;
  std::unique_ptr<PlaneLink> link_;
  std::vector<float> floats_;  // of a plane on its way by the host
};

}  // namespace bdh
