// `bdh convert`: a model from any form that can be read to any that can be written.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/memory.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/convert.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/quantize.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxJsonBytes = 16'000'000;

struct Options {
  std::string source, target, config, form = "safetensors", dtype, max_shard_size = "5GB";
  std::string training_args, details;
  std::vector<std::string> metadata;
  bool huggingface = false, overwrite = false, no_card = false, dequantize = false, packed = false;
};

bool holds_directory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

Json read_json_file(const std::string& path) {
  if (path.empty()) return {};
  return Json::parse(read_text(path, kMaxJsonBytes), path);
}

Metadata parse_metadata(const std::vector<std::string>& pairs) {
  Metadata metadata;
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    if (equals == 0 || equals == pair.npos) {
      fail(ErrorKind::invalid_argument, "--metadata needs KEY=VALUE, not '", pair, "'");
    }
    metadata[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return metadata;
}

/// A file name that says a single weights file is wanted.
bool names_file(const fs::path& target) {
  const fs::path extension = target.extension();
  const bool weights = extension == ".safetensors" || extension == ".pt" || extension == ".bin";
  return weights && !holds_directory(target);
}

ByteProgress progress_line(Progress& progress) {
  return [&progress](uint64_t done, uint64_t total) {
    constexpr uint64_t kMegabyte = 1'000'000;
    return progress.update(static_cast<int64_t>(done / kMegabyte), static_cast<int64_t>(total / kMegabyte));
  };
}

SaveOptions save_options(const Options& options, Progress& progress) {
  SaveOptions save;
  save.safe_serialization = options.form == "safetensors";
  if (!options.dtype.empty()) save.dtype = dtype_from_option(options.dtype);
  save.max_shard_size = parse_size(options.max_shard_size);
  save.metadata = parse_metadata(options.metadata);
  save.create_model_card = !options.no_card;
  save.packed = options.packed;
  save.huggingface = options.huggingface;
  save.overwrite = options.overwrite;
  save.training_args = read_json_file(options.training_args);
  save.details = read_json_file(options.details);
  save.progress = progress_line(progress);
  return save;
}

Model load_source(const Options& options) {
  LoadOptions load;
  load.tokenizer = options.huggingface;  // its special tokens go into config.json
  if (!holds_directory(options.source)) return Model::from_weights_file(options.source, options.config, load);
  if (!options.config.empty()) {
    fail(ErrorKind::invalid_argument, "--config goes with a single weights file; '", options.source,
         "' is a directory");
  }
  return Model::from_pretrained(options.source, load);
}

void convert_to_directory(const Options& options) {
  if (options.overwrite) complete_interrupted_update(options.target);
  const Model found = load_source(options);
  for (const std::string& warning : found.warnings) warn(warning);
  const Model model = options.dequantize ? dequantized(found) : found;
  Progress progress("saving", "MB");
  const auto warnings = model.save_pretrained(options.target, save_options(options, progress));
  progress.erase();
  for (const std::string& warning : warnings) warn(warning);
}

WeightForm file_form(const Options& options) {
  WeightForm form;
  if (!options.dtype.empty()) form.dtype = dtype_from_option(options.dtype);
  form.metadata = parse_metadata(options.metadata);
  return form;
}

/// What a single file cannot say of itself, floats in columns need not.
void plain_to_file(const Options& options, Metadata metadata, const ByteProgress& progress) {
  const Model found = load_source(options);
  for (const std::string& warning : found.warnings) warn(warning);
  const Model model = options.dequantize ? dequantized(found) : found;
  require_floats(model.config(), "a weights file by itself");
  const TensorMap tensors = model.weights->state_dict();
  WeightForm form = file_form(options);
  form.safetensors = fs::path(options.target).extension() == ".safetensors";
  metadata.erase(kLayoutKey);
  form.metadata.insert(metadata.begin(), metadata.end());
  form.metadata.insert({{"format", "pt"}});
  const TensorList list(tensors.begin(), tensors.end());
  ByteMeter meter(progress, bytes_to_write(list, form));
  write_weights_file(options.target, list, form, meter);
}

void convert_to_file(const Options& options) {
  std::error_code ignored;
  if (fs::exists(options.target, ignored) && !options.overwrite) {
    fail(ErrorKind::invalid_argument, "'", options.target,
         "' already exists; replace it with --overwrite, or choose another name");
  }
  Progress progress("saving", "MB");
  if (options.packed)
    fail(ErrorKind::invalid_argument, "--packed makes a directory, whose config.json says so; '",
         options.target, "' names a file");
  std::vector<std::string> warnings;
  const WeightFiles weights = holds_directory(options.source) ? find_weights(options.source, &warnings)
                                                              : open_weights_file(options.source);
  if (options.dequantize || weights.packed())
    return plain_to_file(options, weights.metadata(), progress_line(progress));
  for (const std::string& warning : warnings) warn(warning);
  convert_weights(weights, options.target, file_form(options), progress_line(progress));
}

void run(const Options& options) {
  if (names_file(options.target)) {
    convert_to_file(options);
  } else {
    convert_to_directory(options);
  }
}

}  // namespace

void add_convert(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("convert", "Save a model in another form");
  command
      .option("SRC", &options->source,
              "model directory, or a weights file: safetensors, PyTorch's (.pt, .bin, .ckpt, ...) or .npz")
      .required();
  command.option("DST", &options->target, "directory, or a .safetensors, .pt or .bin file for weights alone")
      .required();
  command.option("--to", &options->form, "weights as safetensors (the default) or pt")
      .choices({"safetensors", "pt"});
  command.option("--dtype", &options->dtype, "weights as f32, bf16 or f16; by default as they are")
      .choices({"f32", "bf16", "f16"});
  command.option("--max-shard-size", &options->max_shard_size,
                 "split weights into files of at most this size: 500MB, 2GB; default 5GB");
  command.option("--config", &options->config, "config.json of a single weights file");
  command.option("--metadata", &options->metadata, "KEY=VALUE for the safetensors files; repeatable");
  command.option("--training-args", &options->training_args, "JSON file with the training's settings");
  command.option("--details", &options->details,
                 "JSON file with facts for metadata.json and the card: license, datasets, metrics, ...");
  command.flag("--dequantize", &options->dequantize, "make floats of weights that bdh quantize rounded");
  command.flag("--packed", &options->packed,
               "lay the weights out so that they run as they lie in the file, shared by processes");
  command.flag("--huggingface", &options->huggingface, "add what Hugging Face transformers needs");
  command.flag("--no-card", &options->no_card, "write no README.md");
  command.flag("--overwrite", &options->overwrite, "replace the model that stands there");
  command.footer("Example: bdh convert checkpoint.pt model --config config.json --dtype bf16");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
