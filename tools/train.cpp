// `bdh train`: trains a model on texts, into one folder: checkpoints, metrics, and the model directory at the
// end. Stopped or killed, it goes on with --resume.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/exchange.h"
#include "bdh/train/trainer.h"
#include "kernels/backends.h"
#include "tools/command.h"
#include "tools/ranks/launch.h"
#include "tools/training/inputs.h"
#include "tools/training/options.h"
#include "tools/training/output.h"
#include "tools/training/progress.h"
#include "tools/training/result.h"
#include "tools/training/run_folder.h"
#include "tools/training/sample.h"
#include "tools/training/start.h"

namespace bdh::tools {
namespace {

void warn_all(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) warn(warning);
}

/// SIGINT, SIGTERM, or a file STOP in the run's folder.
bool asked_to_stop(RunFolder& folder) { return interrupted() || folder.asked_to_stop(); }

TrainingText read_text(TrainSettings& settings, const StartModel& model, RunFolder& folder,
                       const TrainFlags& flags) {
  Progress line("reading", "bytes");
  const auto progress = [&](uint64_t done, uint64_t total) {
    line.update(static_cast<int64_t>(done), static_cast<int64_t>(total));
    return !asked_to_stop(folder);
  };
  return training_text(settings, model, flags.cache.empty() ? folder.cache().string() : flags.cache,
                       progress);
}

/// Takes the weights and the order of the batches away.
Trainer::Inputs trainer_inputs(StartModel& model, TrainingText& text, const RunFolder& folder) {
  Trainer::Inputs inputs;
  inputs.config = model.config;
  inputs.weights = std::exchange(model.weights, {});
  inputs.base = model.base;
  inputs.order = std::move(text.order);
  inputs.validation = text.validation;
  inputs.data_hash = text.hash;
  if (model.tokenizer) inputs.tokenizer_hash = tokenizer_hash(*model.tokenizer);
  inputs.source = model.source;
  inputs.checkpoints = folder.checkpoints();
  return inputs;
}

/// "1.64 M parameters"
std::string parameters_text(const Config& config) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f M parameters", static_cast<double>(config.parameters()) / 1e6);
  return text;
}

/// "2200 steps of 8 x 128 tokens"
std::string steps_text(const TrainOptions& train) {
  return concat(train.steps, " steps of ", train.accumulate > 1 ? concat(train.accumulate, " x ") : "",
                train.batch, " x ", train.block, " tokens");
}

std::string sizes_line(const Config& config, const TrainingText& text, const TrainOptions& train) {
  return concat(parameters_text(config), " (L ", config.n_layer, ", D ", config.n_embd, ", H ", config.n_head,
                ", N ", config.neurons_per_head(), "); ", text.tokens, " tokens to train on, ",
                text.validation.size(), " to validate on; ", steps_text(train));
}

/// "an adapter of rank 8 for encoder, decoder: 0.02 M parameters are trained"
std::string adapter_line(const Config& config, const LoraOptions& lora) {
  std::string names;
  for (const std::string& target : lora.targets) names += (names.empty() ? "" : ", ") + target;
  char trained[64];
  std::snprintf(trained, sizeof trained, "%.2f M", static_cast<double>(lora_numbers(config, lora)) / 1e6);
  return concat("an adapter of rank ", lora.rank, " for ", names, ": ", trained, " parameters are trained");
}

/// Below the curve's title.
std::string subtitle(const Config& config, const TrainSettings& settings) {
  return concat(dataset_name(settings.run), "; ", parameters_text(config), "; ", steps_text(settings.train));
}

/// A run under way: what the trainer's callbacks speak to.
struct TrainingSession {
  RunFolder& folder;
  const TrainOptions& train;
  const StartModel& model;
  std::shared_ptr<Backend> backend;
  StepLog log;
  TrainingProgress progress;
};

TrainerCallbacks callbacks_of(TrainingSession& session) {
  const auto stop = [&session] { return asked_to_stop(session.folder); };
  TrainerCallbacks callbacks;
  callbacks.stop = stop;
  callbacks.step = [&session](const StepMetrics& metrics) {
    session.progress.step(metrics);
    if (const std::string problem = session.log.add(metrics); !problem.empty())
      session.progress.warn(problem);
  };
  callbacks.validating = [&session](int64_t done, int64_t total) {
    session.progress.validating(done, total);
  };
  callbacks.warn = [&session](const std::string& problem) { session.progress.warn(problem); };
  if (!session.model.tokenizer) return callbacks;
  callbacks.sample = [&session, stop](const TensorMap& weights) {
    const StartModel& model = session.model;
    return sample_text(model.config, weights, session.backend, *model.tokenizer, session.train, stop);
  };
  return callbacks;
}

void tell(const FinishedRun& run, const RunFolder& folder, bool json) {
  write_out(json ? result_json(run, folder).dump(2) + "\n" : result_text(run, folder));
}

/// All that a run needs before it trains.
struct Prepared {
  TrainStart start;
  StartModel model;
  TrainingText text;
  std::shared_ptr<Backend> backend;
};

Prepared prepare(const TrainFlags& flags, RunFolder& folder, const Launch& launch) {
  Prepared run;
  run.start = find_start(folder, flags);
  warn_all(run.start.warnings);
  run.model = start_model(run.start.settings, run.start.checkpoint ? &*run.start.checkpoint : nullptr);
  warn_all(run.model.warnings);
  run.text = read_text(run.start.settings, run.model, folder, flags);
  warn_all(run.text.warnings);
  run.backend = make_backend(launch.device(flags.common.device), launch.threads(flags.common.threads));
  return run;
}

/// The first rank makes the token cache that the others map.
Prepared prepare_in_turn(const TrainFlags& flags, RunFolder& folder, Launch& launch) {
  Exchange exchange(launch.ranks());
  std::optional<Prepared> prepared;
  exchange.together([&] {
    if (!exchange.first()) return true;
    folder.lock();
    prepared = prepare(flags, folder, launch);
    return true;
  });
  exchange.together([&] {
    if (!exchange.first()) prepared = prepare(flags, folder, launch);
    return true;
  });
  return *std::move(prepared);
}

/// Of the checkpoint, what a run is told by stays.
void resume(Trainer& trainer, TrainStart& start, const TrainFlags& flags) {
  if (!start.checkpoint) return;
  std::vector<std::string> warnings;
  trainer.resume(*start.checkpoint, flags.allow_changed_data, &warnings);
  warn_all(warnings);
  Checkpoint told;
  told.state = std::move(start.checkpoint->state);
  start.checkpoint = std::move(told);
}

/// The first rank's part.
void lead(Trainer& trainer, const Prepared& prepared, const TrainFlags& flags, RunFolder& folder,
          Exchange& exchange) {
  const TrainSettings& settings = prepared.start.settings;
  const StartModel& model = prepared.model;
  const std::string backend = prepared.backend->name();
  note(start_line(prepared.start, model.source));
  note(sizes_line(model.config, prepared.text, settings.train) + "; " + backend);
  if (settings.train.lora.on) note(adapter_line(model.config, settings.train.lora));
  write_options(folder, settings);

  FinishedRun run;
  run.first = trainer.state().step;
  run.steps = settings.train.steps;
  run.metric = settings.train.metric;
  run.backend = backend;
  TrainingSession session{folder,           settings.train,      model,
                          prepared.backend, {folder, run.first}, {run.first, run.steps}};
  run.result = trainer.run(callbacks_of(session));
  session.progress.erase();
  draw_curve(folder, subtitle(model.config, settings));
  if (run.result.reason == StopReason::asked) {
    note(concat("stopped after step ", run.result.step, ", all is saved; go on with: bdh train --out ",
                flags.out, " --resume"));
  } else {
    const Checkpoint last = trainer.checkpoint();
    exchange.together([&] {
      run.written = write_models(folder, settings, model, last, run.result, backend,
                                 [&folder] { return asked_to_stop(folder); });
      return true;
    });
  }
  warn_all(run.written.warnings);
  tell(run, folder, flags.common.json);
}

/// What the other ranks do meanwhile.
void follow(Trainer& trainer, RunFolder& folder, Exchange& exchange) {
  TrainerCallbacks callbacks;
  callbacks.stop = [&folder] { return asked_to_stop(folder); };
  if (trainer.run(callbacks).reason == StopReason::asked) return;
  trainer.checkpoint();
  exchange.together([] { return true; });
}

void train(const TrainFlags& flags, RunFolder& folder, Launch& launch) {
  Prepared prepared = prepare_in_turn(flags, folder, launch);
  Exchange exchange(launch.ranks());
  Trainer trainer(prepared.backend, prepared.start.settings.train,
                  trainer_inputs(prepared.model, prepared.text, folder), launch.ranks());
  resume(trainer, prepared.start, flags);
  if (exchange.first())
    lead(trainer, prepared, flags, folder, exchange);
  else
    follow(trainer, folder, exchange);
}

/// What to do where a rank has ended.
std::string remedy(const RunFolder& folder, const TrainFlags& flags) {
  std::vector<CheckpointEntry> whole = list_checkpoints(folder.checkpoints());
  std::erase_if(whole, [](const CheckpointEntry& entry) { return !entry.problem.empty(); });
  if (whole.empty()) return "there is no checkpoint yet: start the run again";
  return concat("the last checkpoint is ", whole.back().file.string(), " (step ", whole.back().state.step,
                "); go on with: bdh train --out ", flags.out, " --resume");
}

/// A STOP file is heeded once. What was cancelled by one is no failure.
void run(const TrainFlags& flags) {
  catch_terminations();
  Launch launch;
  RunFolder folder(flags.out);
  const auto body = [&] {
    try {
      train(flags, folder, launch);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::cancelled) throw;
      if (!interrupted()) note(concat("stopped; go on with: bdh train --out ", flags.out, " --resume"));
    }
  };
  launch.run(body, [&] { return remedy(folder, flags); });
  if (!launch.first()) return;
  folder.remove_stop();
  stop_if_interrupted();
}

}  // namespace

void add_train(Command& program) {
  const auto flags = std::make_shared<TrainFlags>();
  Command command = program.subcommand("train", "Train a model on texts, from scratch or from a model");
  add_train_flags(command, *flags);
  command.footer(
      "Example: bdh train --data shakespeare.txt --out run --config config.json --steps 2000\n"
      "         bdh train --out run --resume\n"
      "         bdh train --from model --lora --data letters.txt --out tuned\n"
      "OUT/final is the model directory, OUT/best the one of the best validation, OUT/ema the average's.\n"
      "With --lora OUT/adapter_checkpoint is the adapter, as PEFT has it, and OUT/final_merged the model\n"
      "with it. A file OUT/STOP ends the run after the step: all is saved, exit code 0. Ctrl-C and\n"
      "SIGTERM do the same with exit codes 130 and 143; a second Ctrl-C kills. Failures are exit code 1,\n"
      "wrong usage 2.");
  command.run([flags] { run(*flags); });
}

}  // namespace bdh::tools
