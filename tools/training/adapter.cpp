// Writing an adapter and what is known of it.
#include "tools/training/adapter.h"

#include "bdh/base/file.h"
#include "bdh/pretrained/adapters/peft.h"
#include "bdh/pretrained/metadata.h"

namespace bdh::tools {

Checkpoint with_merged_weights(Checkpoint checkpoint, const StartModel& model, const LoraOptions& lora) {
  if (!lora.on) return checkpoint;
  checkpoint.weights = merged_weights(model.base, checkpoint.weights, lora.scale());
  if (!checkpoint.ema.empty()) checkpoint.ema = merged_weights(model.base, checkpoint.ema, lora.scale());
  return checkpoint;
}

void write_adapter(const std::filesystem::path& directory, const TrainSettings& settings,
                   const StartModel& model, const Checkpoint& checkpoint, bool average) {
  const LoraOptions& lora = settings.train.lora;
  const LoraAdapter adapter = adapter_of(average ? checkpoint.ema : checkpoint.weights, model.config, lora);
  save_peft_adapter(directory, adapter, model.config,
                    {settings.run.from, lora.rank, lora.alpha, lora.rslora});
}

void write_adapter_metadata(const std::filesystem::path& file, const TrainSettings& settings,
                            const StartModel& model, const TrainResult& result) {
  const TrainOptions& train = settings.train;
  const LoraOptions& lora = train.lora;
  Json json, training, adapter, performance;
  training.set("learning_rate", train.schedule.rate).set("max_steps", train.steps);
  training.set("batch_size", train.batch).set("block_size", train.block);
  training.set("gradient_accumulation_steps", train.accumulate);
  adapter.set("r", lora.rank).set("alpha", lora.alpha).set("dropout", lora.dropout);
  adapter.set("use_rslora", lora.rslora);
  adapter.set("target_modules", Json::Array(lora.targets.begin(), lora.targets.end()));
  performance.set("final_loss", result.last_loss).set("training_time", result.seconds);
  if (result.valid_loss) performance.set("valid_loss", *result.valid_loss);
  performance.set("parameters_trained", lora_numbers(model.config, lora));
  json.set("timestamp", utc_now()).set("base_model", settings.run.from);
  json.set("dataset", dataset_name(settings.run)).set("training_config", training);
  json.set("lora_config", adapter).set("performance_metrics", performance);
  AtomicFile out(file);
  out.write(json.dump(2) + "\n");
  out.commit();
}

}  // namespace bdh::tools
