// GradientTree: the order of sums, and that any number of ranks comes to the same bits.
#include "bdh/train/gradient_tree.h"

#include <doctest/doctest.h>

#include <utility>

#include "tests/support/planes.h"

using namespace bdh;
using namespace bdh::test;

namespace {

using Numbers = std::vector<float>;

GradientNode leaf(Training& training, int64_t number) {
  const auto seed = static_cast<uint64_t>(number);
  return {0, number, {0.1 * static_cast<double>(number + 1), number + 1}, patterned_plane(training, seed)};
}

Numbers leaf_numbers(Training& training, int64_t number) {
  return numbers(training, *leaf(training, number).gradient);
}

Numbers operator+(Numbers a, const Numbers& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// Each rank adds up its own, and a tree takes all their nodes.
GradientNode const& sum_of(Training& training, GradientTree& all, int64_t count, int64_t ranks) {
  for (int64_t rank = 0; rank < ranks; ++rank) {
    GradientTree own(training);
    for (int64_t i = rank * count / ranks; i < (rank + 1) * count / ranks; ++i) own.add(leaf(training, i));
    for (const GradientNode& node : own.nodes()) {
      GradientNode copy{node.level, node.index, node.loss, training.new_plane()};
      training.copy(*node.gradient, *copy.gradient);
      all.add(std::move(copy));
    }
  }
  return all.fold();
}

}  // namespace

TEST_CASE("six gradients are added as (((0+1)+(2+3))+(4+5))") {
  const auto training = small_training();
  GradientTree tree(*training);
  const GradientNode& sum = sum_of(*training, tree, 6, 1);
  const auto x = [&](int64_t number) { return leaf_numbers(*training, number); };
  CHECK(numbers(*training, *sum.gradient) == ((x(0) + x(1)) + (x(2) + x(3))) + (x(4) + x(5)));
  CHECK(numbers(*training, *sum.gradient) != x(0) + x(1) + x(2) + x(3) + x(4) + x(5));
  CHECK(sum.loss.tokens == 21);
  CHECK(sum.loss.nats == ((0.1 * 1 + 0.1 * 2) + (0.1 * 3 + 0.1 * 4)) + (0.1 * 5 + 0.1 * 6));
}

TEST_CASE("what is left over is added from right to left") {
  const auto training = small_training();
  GradientTree tree(*training);
  const GradientNode& sum = sum_of(*training, tree, 7, 1);
  const auto x = [&](int64_t number) { return leaf_numbers(*training, number); };
  CHECK(numbers(*training, *sum.gradient) == ((x(0) + x(1)) + (x(2) + x(3))) + ((x(4) + x(5)) + x(6)));
}

TEST_CASE("any number of ranks adds to the same bits") {
  const auto training = small_training();
  for (const int64_t count : {1, 2, 3, 6, 12, 20}) {
    GradientTree one(*training);
    const GradientNode& sum = sum_of(*training, one, count, 1);
    const Numbers want = numbers(*training, *sum.gradient);
    for (int64_t ranks = 2; ranks <= count; ++ranks) {
      if (count % ranks != 0) continue;
      CAPTURE(count);
      CAPTURE(ranks);
      GradientTree all(*training);
      const GradientNode& other = sum_of(*training, all, count, ranks);
      CHECK(numbers(*training, *other.gradient) == want);
      CHECK(other.loss.nats == sum.loss.nats);
      CHECK(other.loss.tokens == sum.loss.tokens);
    }
  }
}

TEST_CASE("a tree holds no more nodes than the number of micro-batches has digits, and uses planes again") {
  const auto training = small_training();
  GradientTree tree(*training);
  for (int64_t i = 0; i < 64; ++i) {
    tree.add(leaf(*training, i));
    CHECK(tree.nodes().size() == static_cast<size_t>(__builtin_popcountll(static_cast<uint64_t>(i + 1))));
  }
  const Plane* plane = tree.nodes().front().gradient.get();
  tree.clear();
  CHECK(tree.nodes().empty());
  CHECK(tree.take_plane().get() == plane);
}
