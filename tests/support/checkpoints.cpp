// A small checkpoint of a training run, for tests.
#include "tests/support/checkpoints.h"

#include "bdh/model/weights.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"

namespace bdh::test {

Checkpoint checkpoint_at(int64_t step) {
  const auto seed = static_cast<uint64_t>(step);
  Checkpoint checkpoint;
  checkpoint.weights = random_state_dict(tiny_config(), 4 * seed);
  checkpoint.exp_avg = random_state_dict(tiny_config(), 4 * seed + 1);
  checkpoint.exp_avg_sq = random_state_dict(tiny_config(), 4 * seed + 2);
  checkpoint.exp_avg.erase("attn.freqs");
  checkpoint.exp_avg_sq.erase("attn.freqs");
  checkpoint.ema = random_state_dict(tiny_config(), 4 * seed + 3);
  RunState& state = checkpoint.state;
  state.step = state.optimizer_step = step;
  state.epoch = step / 10;
  state.tokens = 1000 * step;
  state.seconds = 0.1 * static_cast<double>(step);
  state.seed = 0xfedcba9876543210;
  state.data_hash = "data";
  state.best = 1.0 / 3;
  state.history = Json::Array{};
  state.config = tiny_config().to_json();
  state.source = "new";
  return checkpoint;
}

bool same_checkpoint(const Checkpoint& a, const Checkpoint& b) {
  return a.state.to_json().dump() == b.state.to_json().dump() && same_bits(a.weights, b.weights) &&
         same_bits(a.exp_avg, b.exp_avg) && same_bits(a.exp_avg_sq, b.exp_avg_sq) &&
         same_bits(a.ema, b.ema) && same_bits(a.carried, b.carried) && a.metric == b.metric;
}

}  // namespace bdh::test
