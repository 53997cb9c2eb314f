// Planes from GPU to GPU, each a rank's: the same bits as by way of the host.
#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "bdh/train/exchange.h"
#include "kernels/cuda/backend.h"
#include "nccl.h"
#include "tests/support/cuda/emulator.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/training_models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int kRanks = 3, kMicroBatches = 6;

std::unique_ptr<Training> training_on(int device, const Config& config, const TensorMap& weights) {
  Tensor freqs = weights.at("attn.freqs");
  freqs.shape = {config.neurons_per_head()};
  freqs.strides = {1};
  return cuda::make_backend(device)->new_training(config.dimensions(), freqs, {});
}

// The sum of the gradients of all micro-batches, as every rank has it at the end.
std::vector<TensorMap> gradients_of(int count, bool one_device) {
  const Config config = config_of(1, 12, 2, 8, 30);
  const TensorMap weights = training_weights(config, 5);
  const TrainingTokens tokens = training_tokens(config, 1, 12, 9);
  std::vector<TensorMap> all(static_cast<size_t>(count));
  run_ranks(count, [&](Ranks& ranks) {
    const auto training = training_on(one_device ? 0 : ranks.rank(), config, weights);
    Exchange exchange(ranks);
    exchange.connect(*training);
    const auto parameters = training->new_plane();
    training->set(*parameters, weights);
    exchange.share(*training, *parameters);
    GradientTree tree(*training);
    const auto [begin, end] = exchange.share_of(kMicroBatches);
    for (int64_t i = begin; i < end; ++i) {
      GradientNode node{0, i, {}, tree.take_plane()};
      node.loss = training->gradient(*parameters, tokens.batch(static_cast<uint64_t>(i)), *node.gradient);
      tree.add(std::move(node));
    }
    exchange.gather(tree, *training);
    const auto sum = training->new_plane();
    if (exchange.first()) training->copy(*tree.fold().gradient, *sum);
    exchange.share(*training, *sum);
    all[static_cast<size_t>(ranks.rank())] = training->tensors(*sum);
  });
  return all;
}

}  // namespace

TEST_CASE("CUDA training: planes go from GPU to GPU where each rank has one, and else by the host") {
  emulation::reset();
  emulation::set_devices(std::vector<emulation::Device>(kRanks));
  const TensorMap want = gradients_of(1, true).front();
  size_t before = emulation::nccl_messages();
  for (const TensorMap& got : gradients_of(kRanks, true)) CHECK(same_bits(got, want));
  CHECK(emulation::nccl_messages() == before);
  for (const TensorMap& got : gradients_of(kRanks, false)) CHECK(same_bits(got, want));
  // A node from each of two ranks, and what rank 0 shares twice with both.
  CHECK(emulation::nccl_messages() >= before + 6);
  setenv("BDH_NCCL", "0", 1);
  before = emulation::nccl_messages();
  for (const TensorMap& got : gradients_of(kRanks, false)) CHECK(same_bits(got, want));
  CHECK(emulation::nccl_messages() == before);
  unsetenv("BDH_NCCL");
  emulation::reset();
}
