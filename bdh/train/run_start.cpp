// Options and inputs, as state and backend want them.
#include "bdh/train/run_start.h"

#include <cstring>
#include <utility>

#include "bdh/base/tensor_hash.h"
#include "bdh/model/frequencies.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/train/optimizer.h"
#include "bdh/train/parameter_names.h"

namespace bdh {

namespace {

Json schedule_json(const TrainOptions& options) {
  const Json all = options.to_json();
  Json schedule(Json::Object{});
  for (const char* key : {"schedule", "lr", "final_lr", "warmup", "decay_share", "steps"})
    schedule.set(key, *all.find(key));
  return schedule;
}

}  // namespace

Tensor frequencies_of(const TensorMap& weights, const Config& config) {
  const auto found = weights.find(kFreqs);
  const std::vector<float> values = found == weights.end() ? rotation_frequencies(config.neurons_per_head())
                                                           : stored_frequencies(found->second);
  std::byte* data = nullptr;
  Tensor freqs = make_tensor(DType::f32, {static_cast<int64_t>(values.size())}, &data);
  std::memcpy(data, values.data(), values.size() * sizeof(float));
  return freqs;
}

TrainingOptions training_options(const TrainOptions& options, const Config& config) {
  std::vector<float> horizons = options.horizon;
  if (horizons.size() == 1) horizons.resize(static_cast<size_t>(config.n_head), horizons.front());
  return {.form = options.form,
          .chunk = options.chunk,
          .precision = options.dtype,
          .horizons = std::move(horizons),
          .dropout = static_cast<float>(*options.dropout),
          .seed = options.seed,
          .names = parameter_names(config)};
}

RunState first_state(const TrainOptions& options, const Trainer::Inputs& inputs) {
  RunState state;
  state.seed = options.seed;
  state.loss_scale = first_loss_scale(options.dtype);
  state.data_hash = inputs.data_hash;
  if (inputs.validation.size() > 0) state.validation_hash = inputs.validation.hash();
  state.tokenizer_hash = inputs.tokenizer_hash;
  state.order_hash = inputs.order->hash();
  if (options.lora.on) state.base_hash = hash_of(inputs.base);
  state.statistics = Json::Object{{kOutliers, Outliers().to_json()}};
  state.history = Json::Array{};
  state.schedule = schedule_json(options);
  state.options = options.to_json();
  state.config = inputs.config.to_json();
  state.started = utc_now();
  state.source = inputs.source;
  return state;
}

}  // namespace bdh
