// GradientTree: the gradients of a step's micro-batches, added by a binary tree over their numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/training.h"

namespace bdh {

/// The sum over the micro-batches [index, index + 1) * 2^level.
struct GradientNode {
  int level = 0;
  int64_t index = 0;
  LossSum loss;
  std::unique_ptr<Plane> gradient;
};

/// Which two nodes are added depends on the numbers of micro-batches alone: a rank that has consecutive ones
/// makes nodes of the same tree as one that has all, and whoever adds those of all ranks gets the same bits.
/// Holds about log2 of the micro-batches planes, and uses them again.
class GradientTree {
 public:
  explicit GradientTree(Training& training) : training_(training) {}

  /// Of numbers that mean nothing: to compute the next gradient into.
  std::unique_ptr<Plane> take_plane();
  /// Nodes come from left to right.
  void add(GradientNode node);
  /// What could not be added yet, from left to right.
  const std::vector<GradientNode>& nodes() const { return nodes_; }
  /// The sum of all, from right to left: a step's micro-batches need not be a power of two. There is at least
  /// one node. Valid until the next clear().
  const GradientNode& fold();
  void clear();

 private:
  void merge_last_two();

  Training& training_;
  std::vector<GradientNode> nodes_;
  std::vector<std::unique_ptr<Plane>> spare_;
};

}  // namespace bdh
