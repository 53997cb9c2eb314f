// Loading the model and the texts of a training run.
#include "tools/training/inputs.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/horizon.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/adapters/load_adapter.h"
#include "bdh/pretrained/config_file.h"
#include "bdh/train/trainer.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kByteVocabulary = 256;

void take_tokenizer(StartModel& start, TokenizerSource source, std::shared_ptr<const Tokenizer> tokenizer) {
  start.tokenizer_source = std::move(source);
  start.tokenizer = std::move(tokenizer);
}

/// That of --tokenizer.
void read_tokenizer(StartModel& start, const fs::path& directory) {
  TokenizerSource source = find_tokenizer(directory, 0);
  if (source.kind.empty())
    fail(ErrorKind::not_found, directory.string(), ": no tokenizer.json there; leave out --tokenizer to ",
         "train on bytes");
  auto tokenizer = tokenizer_from(source, std::numeric_limits<int64_t>::max(), directory, &start.warnings);
  take_tokenizer(start, std::move(source), std::move(tokenizer));
}

Model model_from(const RunOptions& run, std::vector<std::string>& warnings) {
  LoadOptions load;
  load.device = "cpu";
  Model model = run.config.empty() ? Model::from_pretrained(run.from, load)
                                   : Model::from_weights_file(run.from, run.config, load);
  warnings.insert(warnings.end(), model.warnings.begin(), model.warnings.end());
  return model;
}

/// What an adapter is trained for, floats whatever it is stored as, and the adapter.
void take_base(StartModel& start, const Model& model) {
  start.base = model.weights->state_dict();
  if (start.config.weight_bits != 0) {
    start.base = dequantized(start.config, start.base);
    start.config = with_weight_bits(start.config, 0);
  }
  for (auto& [name, tensor] : start.base) tensor = converted(tensor, DType::f32);
}

/// Those of a run that goes on come with its checkpoint, once that is known to be this run's.
TensorMap first_matrices(const StartModel& start, const TrainSettings& settings, bool goes_on) {
  const LoraOptions& lora = settings.train.lora;
  if (goes_on || settings.run.adapter.empty()) return initial_lora(start.config, lora, settings.train.seed);
  return matrices_of(load_adapter(settings.run.adapter, start.config), start.config, lora);
}

/// By which it reads on past its block.
void remark_on_horizon(const std::vector<float>& horizon, const TrainSettings& settings,
                       std::vector<std::string>& warnings) {
  if (horizon.empty() || !settings.train.horizon.empty()) return;
  const std::string tokens = horizon_text(horizon);
  warnings.push_back(concat(settings.run.from, " has a horizon of ", tokens,
                            " tokens and is trained without one; to keep it: --horizon ", tokens));
}

Config new_config(const RunOptions& run, const Tokenizer* tokenizer, std::vector<std::string>& warnings) {
  if (!run.config.empty()) {
    const ConfigSource source = read_config_json(run.config);
    refuse_other_functions(source);
    return Config::from_json(with_reference_keys(source.values), run.config, &warnings);
  }
  Config config;
  if (tokenizer) config.vocab_size = tokenizer->vocab_size();
  return config;
}

void require_tokenizer(StartModel& start, const RunOptions& run) {
  if (!start.tokenizer && start.tokenizer_source.unread.empty() &&
      start.config.vocab_size == kByteVocabulary) {
    start.tokenizer_source.kind = kBytesKind;
    start.tokenizer = std::make_shared<ByteTokenizer>();
  }
  if (!start.tokenizer && !run.data.empty())
    fail(ErrorKind::invalid_argument, "the vocabulary has ", start.config.vocab_size,
         " tokens: name the directory of its tokenizer.json as --tokenizer");
  if (start.tokenizer && start.tokenizer->vocab_size() > start.config.vocab_size)
    fail(ErrorKind::invalid_argument, "the tokenizer has ", start.tokenizer->vocab_size(),
         " tokens, the config's vocab_size is ", start.config.vocab_size, ": make that as large");
}

/// (steps, B, T + 1) of --batches.
Shape shape_of_batches(const std::string& file) { return SafetensorsFile::open(file).tensor("tokens").shape; }

void take_batches(TrainSettings& settings, const Config& config, TrainingText& text) {
  TrainOptions& train = settings.train;
  const std::string& file = settings.run.batches;
  text.order = given_batches(file, train.accumulate, config.vocab_size);
  const Shape shape = shape_of_batches(file);
  train.batch = shape[1] / train.accumulate;
  train.block = shape[2] - 1;
  train.steps = std::min(train.steps, shape[0]);
  text.tokens = train.steps * shape[1] * train.block;
}

DataOptions data_options(const RunOptions& run, const fs::path& cache) {
  DataOptions options;
  options.text_field = run.text_field;
  options.cache = cache;
  return options;
}

}  // namespace

StartModel start_model(const TrainSettings& settings, const Checkpoint* resumed) {
  const RunOptions& run = settings.run;
  const bool lora = settings.train.lora.on;
  StartModel start;
  if (lora && run.from.empty())
    fail(ErrorKind::invalid_argument,
         "the run's options.json does not say whose adapter it is; add its \"from\"");
  if (!run.tokenizer.empty()) read_tokenizer(start, run.tokenizer);
  if (!run.from.empty()) {
    Model model = model_from(run, start.warnings);
    start.config = model.config();
    start.source = run.from;
    if (lora)
      take_base(start, model);
    else if (!resumed)
      start.weights = model.weights->state_dict();
    if (!resumed) remark_on_horizon(model.generation.horizon, settings, start.warnings);
    if (!start.tokenizer) take_tokenizer(start, std::move(model.tokenizer_source), model.tokenizer);
  }
  if (resumed) start.source = resumed->state.source;
  if (lora) {
    start.weights = first_matrices(start, settings, resumed != nullptr);
  } else if (resumed) {
    start.config = Config::from_json(resumed->state.config, "the checkpoint's config");
    start.weights = resumed->weights;
  } else if (run.from.empty()) {
    start.config = new_config(run, start.tokenizer.get(), start.warnings);
  }
  require_floats(start.config, "training");
  require_tokenizer(start, run);
  if ((lora || !resumed) && settings.train.dropout) start.config.dropout = *settings.train.dropout;
  if (start.weights.empty()) start.weights = initial_weights(start.config, settings.train.seed);
  return start;
}

TrainingText training_text(TrainSettings& settings, const StartModel& model, const fs::path& cache,
                           const std::function<bool(uint64_t, uint64_t)>& progress) {
  const RunOptions& run = settings.run;
  const TrainOptions& train = settings.train;
  TrainingText text;
  DataOptions options = data_options(run, cache);
  options.progress = progress;
  const auto tokens_of = [&](std::vector<fs::path> paths) {
    options.paths = std::move(paths);
    return load_tokens(options, *model.tokenizer, model.config.vocab_size, &text.warnings);
  };
  if (!run.valid.empty()) text.validation = tokens_of({run.valid});
  if (!run.batches.empty()) {
    take_batches(settings, model.config, text);
    return text;
  }
  TokenData data = tokens_of({run.data.begin(), run.data.end()});
  if (run.valid.empty() && train.validation_share > 0) {
    DataSplit split = split_tokens(data, train.validation_share, train.block);
    data = std::move(split.train);
    text.validation = std::move(split.validation);
  }
  text.tokens = data.size();
  text.hash = data.hash();
  const auto order = train.carry_state ? consecutive_blocks : shuffled_blocks;
  text.order = order(std::move(data), train.block, train.batch, train.accumulate, train.seed);
  return text;
}

std::string dataset_name(const RunOptions& run) {
  std::string names;
  for (const std::string& path : run.data) names += (names.empty() ? "" : ", ") + short_name(path);
  return run.batches.empty() ? names : short_name(run.batches);
}

}  // namespace bdh::tools
