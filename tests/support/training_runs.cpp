// A text in which a model soon finds something to learn, and runs on it.
#include "tests/support/training_runs.h"

#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"

namespace bdh::test {

namespace {

std::vector<int32_t> text_of(int64_t count, int64_t vocab, int64_t start) {
  std::vector<int32_t> tokens;
  for (int64_t i = start; i < start + count; ++i)
    tokens.push_back(static_cast<int32_t>((i % 5 == 0 ? i * i : 3 * i) % vocab));
  return tokens;
}

std::unique_ptr<BatchOrder> order_of(const RunSetup& setup) {
  const TrainOptions& options = setup.options;
  const auto make = options.carry_state ? consecutive_blocks : shuffled_blocks;
  return make(TokenData::of(setup.text), options.block, options.batch, options.accumulate, options.seed);
}

TensorMap first_weights(const RunSetup& setup) {
  const uint64_t seed = setup.options.seed;
  return setup.options.lora.on ? initial_lora(setup.config, setup.options.lora, seed)
                               : initial_weights(setup.config, seed);
}

}  // namespace

RunSetup::RunSetup() : config(config_of(1, 8, 2, 4, 19)), order(order_of) {
  config.dropout = 0;
  text = text_of(200, config.vocab_size, 0);
  validation = text_of(60, config.vocab_size, 1000);
  options.steps = 12;
  options.batch = 2;
  options.block = 8;
  options.accumulate = 3;
  options.seed = 5;
  options.valid_every = 4;
}

std::unique_ptr<Trainer> RunSetup::make(Ranks& ranks) const {
  Trainer::Inputs inputs;
  inputs.config = config;
  inputs.weights = weights.empty() ? first_weights(*this) : weights;
  if (options.lora.on) inputs.base = base.empty() ? initial_weights(config, options.seed) : base;
  inputs.order = order(*this);
  inputs.validation = TokenData::of(validation);
  inputs.data_hash = TokenData::of(text).hash();
  inputs.tokenizer_hash = "bytes";
  inputs.checkpoints = checkpoints;
  return std::make_unique<Trainer>(backend(), options, std::move(inputs), ranks);
}

std::unique_ptr<Trainer> RunSetup::make() const {
  static const std::unique_ptr<Ranks> kAlone = single_rank();
  return make(*kAlone);
}

TrainerCallbacks RunLog::callbacks() {
  TrainerCallbacks callbacks;
  callbacks.step = [this](const StepMetrics& metrics) { steps.push_back(metrics); };
  callbacks.stop = [this] { return questions++ == stop_at; };
  callbacks.warn = [this](const std::string& line) { warnings.push_back(line); };
  return callbacks;
}

bool same_end(const Checkpoint& a, const Checkpoint& b) {
  RunState state = a.state, other = b.state;
  state.seconds = other.seconds = 0;
  state.started = other.started = "";
  return state.to_json() == other.to_json() && same_bits(a.weights, b.weights) &&
         same_bits(a.exp_avg, b.exp_avg) && same_bits(a.exp_avg_sq, b.exp_avg_sq) &&
         same_bits(a.ema, b.ema) && same_bits(a.carried, b.carried);
}

}  // namespace bdh::test
