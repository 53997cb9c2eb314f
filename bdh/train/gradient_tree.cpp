// The tree is a binary counter: a node waits on a stack until the one that it belongs to has come.
#include "bdh/train/gradient_tree.h"

#include <utility>

namespace bdh {

namespace {

bool are_siblings(const GradientNode& left, const GradientNode& right) {
  return left.level == right.level && left.index / 2 == right.index / 2;
}

}  // namespace

std::unique_ptr<Plane> GradientTree::take_plane() {
  if (spare_.empty()) return training_.new_plane();
  std::unique_ptr<Plane> plane = std::move(spare_.back());
  spare_.pop_back();
  return plane;
}

void GradientTree::add(GradientNode node) {
  nodes_.push_back(std::move(node));
  while (nodes_.size() > 1 && are_siblings(nodes_[nodes_.size() - 2], nodes_.back())) {
    merge_last_two();
    ++nodes_.back().level;
    nodes_.back().index /= 2;
  }
}

void GradientTree::merge_last_two() {
  GradientNode right = std::move(nodes_.back());
  nodes_.pop_back();
  GradientNode& left = nodes_.back();
  training_.add(*left.gradient, *right.gradient);
  left.loss.nats += right.loss.nats;
  left.loss.tokens += right.loss.tokens;
  spare_.push_back(std::move(right.gradient));
}

const GradientNode& GradientTree::fold() {
  while (nodes_.size() > 1) merge_last_two();
  return nodes_.front();
}

void GradientTree::clear() {
  for (GradientNode& node : nodes_) spare_.push_back(std::move(node.gradient));
  nodes_.clear();
}

}  // namespace bdh
