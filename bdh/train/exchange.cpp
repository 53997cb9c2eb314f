// What ranks send: reports, nodes of the gradient's tree, planes and tensors.
#include "bdh/train/exchange.h"

#include <algorithm>
#include <array>
#include <utility>

namespace bdh {

namespace {

// A GradientNode without its plane.
struct NodeHeader {
  int64_t level, index;
  LossSum loss;
};

template <class Value>
std::span<const std::byte> bytes_of(const Value& value) {
  return std::as_bytes(std::span(&value, 1));
}

template <class Value>
Value receive_value(Ranks& ranks, int from) {
  Value value{};
  ranks.receive(std::as_writable_bytes(std::span(&value, 1)), from);
  return value;
}

}  // namespace

Exchange::Share Exchange::share_of(int64_t count, int rank) const {
  const int64_t each = count / ranks_.size();
  return {rank * each, (rank + 1) * each};
}

Exchange::Report Exchange::failure(ErrorKind kind, std::string_view text) const {
  Report report{Verdict::failed, ranks_.rank(), kind, {}};
  std::copy_n(text.data(), std::min(text.size(), report.text.size() - 1), report.text.data());
  return report;
}

Exchange::Report Exchange::worst_of(Report mine) {
  if (alone()) return mine;
  if (!first()) ranks_.send(bytes_of(mine), 0);
  for (int rank = 1; first() && rank < ranks_.size(); ++rank) {
    const auto theirs = receive_value<Report>(ranks_, rank);
    if (theirs.verdict > mine.verdict) mine = theirs;
  }
  share(mine);
  return mine;
}

bool Exchange::goes_on(const Report& worst) const {
  if (worst.verdict == Verdict::failed && worst.rank != ranks_.rank())
    fail(worst.kind, "rank ", worst.rank, ": ", worst.text.data());
  return worst.verdict == Verdict::go_on;
}

// Whether all have a device, each another.
bool Exchange::can_link(const std::string& device) {
  std::array<char, 128> mine{};
  device.copy(mine.data(), mine.size() - 1);
  std::vector<std::array<char, 128>> all{mine};
  if (!first()) ranks_.send(bytes_of(mine), 0);
  for (int rank = 1; first() && rank < ranks_.size(); ++rank)
    all.push_back(receive_value<std::array<char, 128>>(ranks_, rank));
  std::sort(all.begin(), all.end());
  bool can = all.front().front() != 0 && std::adjacent_find(all.begin(), all.end()) == all.end();
  share(can);
  return can;
}

void Exchange::connect(Training& training) {
  link_.reset();
  if (alone() || !can_link(training.link_device())) return;
  LinkKey key{};
  together([&] {
    if (first()) key = training.new_link_key();
    return true;
  });
  share(key);
  together([&] {
    link_ = training.link(key, ranks_.rank(), ranks_.size());
    return true;
  });
}

void Exchange::send(const Plane& plane, Training& training) {
  if (link_) return link_->send(plane, 0);
  floats_.resize(static_cast<size_t>(training.floats()));
  training.to_host(plane, floats_);
  ranks_.send(std::as_bytes(std::span(floats_)), 0);
}

void Exchange::receive(Plane& plane, Training& training, int from) {
  if (link_) return link_->receive(plane, from);
  floats_.resize(static_cast<size_t>(training.floats()));
  ranks_.receive(std::as_writable_bytes(std::span(floats_)), from);
  training.from_host(floats_, plane);
}

void Exchange::gather(GradientTree& tree, Training& training) {
  if (alone()) return;
  if (!first()) return send_nodes(tree, training);
  for (int rank = 1; rank < ranks_.size(); ++rank) receive_nodes(tree, training, rank);
}

void Exchange::send_nodes(const GradientTree& tree, Training& training) {
  ranks_.send(bytes_of(static_cast<int64_t>(tree.nodes().size())), 0);
  for (const GradientNode& node : tree.nodes()) {
    ranks_.send(bytes_of(NodeHeader{node.level, node.index, node.loss}), 0);
    send(*node.gradient, training);
  }
}

void Exchange::receive_nodes(GradientTree& tree, Training& training, int from) {
  for (auto left = receive_value<int64_t>(ranks_, from); left > 0; --left) {
    const auto header = receive_value<NodeHeader>(ranks_, from);
    std::unique_ptr<Plane> plane = tree.take_plane();
    receive(*plane, training, from);
    tree.add({static_cast<int>(header.level), header.index, header.loss, std::move(plane)});
  }
}

void Exchange::share(Training& training, Plane& plane) {
  if (alone()) return;
  if (link_) return link_->broadcast(plane);
  floats_.resize(static_cast<size_t>(training.floats()));
  if (first()) training.to_host(plane, floats_);
  ranks_.broadcast(std::as_writable_bytes(std::span(floats_)));
  if (!first()) training.from_host(floats_, plane);
}

void Exchange::share_all(std::vector<LossSum>& sums) {
  const auto size = static_cast<size_t>(ranks_.size());
  for (size_t i = 0; !alone() && i < sums.size(); ++i) {
    const auto rank = static_cast<int>(i % size);
    if (rank == ranks_.rank() && rank != 0) ranks_.send(bytes_of(sums[i]), 0);
    if (first() && rank != 0) sums[i] = receive_value<LossSum>(ranks_, rank);
  }
  ranks_.broadcast(std::as_writable_bytes(std::span(sums)));
}

std::vector<Tensor> Exchange::gather(std::vector<Tensor> mine) {
  if (alone()) return mine;
  if (!first()) {
    for (const Tensor& tensor : mine) ranks_.send({tensor.data, tensor.bytes()}, 0);
    return {};
  }
  const size_t each = mine.size();
  for (int rank = 1; rank < ranks_.size(); ++rank) {
    for (size_t i = 0; i < each; ++i) {
      std::byte* data = nullptr;
      Tensor tensor = make_tensor(mine.front().dtype, mine.front().shape, &data);
      ranks_.receive({data, tensor.bytes()}, rank);
      mine.push_back(std::move(tensor));
    }
  }
  return mine;
}

}  // namespace bdh
