// Model::save_pretrained: what stands in each file of a model directory, and that all of them appear
// together. Computes nothing itself.
#include <algorithm>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"
#include "bdh/base/sha256.h"
#include "bdh/base/version.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/card.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/huggingface.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/remarks.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSpareBytes = 1 << 20;  // for everything beside the weights

void write_text(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void write_json(const fs::path& path, const Json& json) {
  write_text(path, json.dump(2, NonFinite::python) + "\n");
}

/// In the order of a state_dict. A model that runs in another dtype than it is stored in is saved as it runs;
/// float64 that runs as float32 is saved as it is stored.
TensorList tensors_to_save(const Weights& weights, std::optional<DType>* dtype) {
  const TensorMap tensors = weights.state_dict();
  const DType stored = weights.stored_dtype();
  const bool as_stored = stored == weights.dtype() || (stored == DType::f64 && weights.dtype() == DType::f32);
  if (!*dtype && !as_stored) *dtype = weights.dtype();
  TensorList list;
  for (const auto& [name, shape] : parameter_shapes(weights.config()))
    list.emplace_back(name, tensors.at(name));
  return list;
}

/// The path's last part, "." and a closing slash resolved.
std::string last_name(const fs::path& path) {
  const fs::path whole = fs::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

void check_options(const SaveOptions& options) {
  if (options.dtype && !is_weight_dtype(*options.dtype)) {
    fail(ErrorKind::invalid_argument, "weights are saved as F64, F32, BF16 or F16, not ",
         name_of(*options.dtype));
  }
  if (options.packed && !options.safe_serialization)
    fail(ErrorKind::invalid_argument,
         "packed weights are safetensors; leave out packed (--packed), or PyTorch's form");
  for (const char* key : {"format", "format_version", kLayoutKey}) {
    if (!options.metadata.contains(key)) continue;
    fail(ErrorKind::invalid_argument, "metadata '", key, "' is written by bdh itself; choose another name");
  }
  require_details(options.details);
  for (const auto& [name, bytes] : options.training_files) {
    if (std::find(kTrainingFiles.begin(), kTrainingFiles.end(), name) == kTrainingFiles.end())
      fail(ErrorKind::invalid_argument, printable(name),
           " is none of the files that tell of training: ", kTrainingMetadataFile, ", ",
           kTrainingPictureFile);
  }
}

WeightForm form_of(const Model& model, const SaveOptions& options, std::optional<DType> dtype) {
  WeightForm form;
  form.safetensors = options.safe_serialization;
  form.transformers = options.huggingface;
  form.packed = options.packed;
  form.max_shard_size = options.max_shard_size;
  form.dtype = dtype;
  form.metadata = options.metadata;
  form.metadata.insert(model.metadata.begin(), model.metadata.end());
  form.metadata.insert({{"format", "pt"}, {"format_version", std::to_string(kFormatVersion)}});
  form.parameters = model.config().parameters();
  return form;
}

/// One save: the model, the options with their defaults filled in, and where the files go.
class Save {
 public:
  Save(const Model& model, const SaveOptions& options, const fs::path& target)
      : model_(model), options_(options), target_(target), dtype_(options.dtype) {
    if (dtype_) require_floats(model.config(), concat("a save as ", name_of(*dtype_)));
    tensors_ = tensors_to_save(*model.weights, &dtype_);
    if (options.packed) pack();
    form_ = form_of(model, options, dtype_);
    if (options_.training_args.is_null()) options_.training_args = model.training_args;
    if (options_.training_files.empty()) options_.training_files = model.training_files;
    if (options_.details.is_null()) options_.details = model.details;
  }

  uint64_t weight_bytes() const { return bytes_to_write(tensors_, form_); }

  /// Everything into that directory, config.json last.
  void write(const fs::path& directory) {
    ByteMeter meter(options_.progress, 2 * weight_bytes());
    const std::vector<std::string> files = write_weights(directory, tensors_, form_, meter);
    write_json(directory / kMetadataFile, metadata(directory, files, meter).to_json());
    write_json(directory / kGenerationFile, generation());
    if (!options_.training_args.is_null()) write_json(directory / kTrainingArgsFile, options_.training_args);
    for (const auto& [name, bytes] : options_.training_files) write_text(directory / name, bytes);
    for (const auto& [name, bytes] : tokenizer_files()) write_text(directory / name, bytes);
    if (options_.create_model_card) write_text(directory / kCardFile, card(files));
    if (options_.huggingface) {
      for (const auto& [name, text] : huggingface_files()) write_text(directory / name, text);
    }
    write_json(directory / kConfigFile, config());
  }

 private:
  ModelMetadata metadata(const fs::path& directory, const std::vector<std::string>& files, ByteMeter& meter) {
    ModelMetadata metadata;
    metadata.format_version = kFormatVersion;
    metadata.bdh_version = kVersion;
    metadata.created = utc_now();
    for (const std::string& file : files) {
      const std::string hash = sha256_of_file(directory / file, [&](size_t bytes) { meter.add(bytes); });
      metadata.weights.push_back({file, fs::file_size(directory / file), hash});
    }
    if (options_.details.is_object()) metadata.details = options_.details.as_object();
    return metadata;
  }

  void pack() {
    if (dtype_.value_or(model_.weights->stored_dtype()) == DType::f64)
      fail(ErrorKind::unsupported,
           "F64 weights run as F32, and so cannot be packed to run as they lie; save them as ",
           "F32 (--dtype f32)");
    const TensorMap packed = packed_state_dict(model_.config(), {tensors_.begin(), tensors_.end()});
    tensors_.assign(packed.begin(), packed.end());
  }

  /// As it is written.
  Config saved_config() const { return with_packed(model_.config(), options_.packed); }

  /// Quantized weights compute in float32.
  DType saved_dtype() const {
    if (model_.config().weight_bits != 0) return DType::f32;
    return dtype_.value_or(model_.weights->stored_dtype());
  }

  Json config() const {
    return options_.huggingface ? huggingface_config(saved_config(), saved_dtype(), tokenizer_files())
                                : plain_config(saved_config());
  }

  /// transformers looks for the special tokens here; what the file says itself goes first.
  Json generation() const {
    Json json = options_.generation.value_or(model_.generation).to_json();
    if (!options_.huggingface) return json;
    const Json ids = special_token_ids(tokenizer_files());
    for (const auto& [key, id] : ids.as_object()) {
      if (!json.find(key)) json.set(key, id);
    }
    return json;
  }

  std::string card(const std::vector<std::string>& files) const {
    CardFacts facts;
    const Json* name = options_.details.find("name");
    facts.name = name && name->is_string() ? name->as_string() : last_name(target_);
    facts.config = saved_config();
    facts.dtype = saved_dtype();
    facts.weights_files = files;
    facts.tokenizer = tokenizer_kind();
    facts.huggingface = options_.huggingface;
    facts.program_version = kVersion;
    facts.training_args = options_.training_args;
    facts.block_size = Remarks{options_.training_args, options_.details, {}}.block_size(model_.config());
    facts.horizon = options_.generation.value_or(model_.generation).horizon;
    facts.details = options_.details;
    if (options_.training_files.contains(kTrainingPictureFile)) facts.picture = kTrainingPictureFile;
    return model_card(facts);
  }

  /// "BPE", ...; "bytes" for byte-level models; empty when the file does not say.
  std::string tokenizer_kind() const {
    const TokenizerFiles files = tokenizer_files();
    const auto file = files.find("tokenizer.json");
    if (file == files.end()) return model_.tokenizer_source.kind;
    try {
      const Json json = Json::parse(file->second, file->first);
      const Json* model = json.find("model");
      const Json* type = model ? model->find("type") : nullptr;
      return type && type->is_string() ? type->as_string() : "";
    } catch (const Error&) {
      return "";
    }
  }

  TokenizerFiles tokenizer_files() const {
    if (!options_.save_tokenizer) return {};
    const TokenizerFiles& found = model_.tokenizer_source.files;
    return model_.tokenizer && found.empty() ? model_.tokenizer->files() : found;
  }

  const Model& model_;
  SaveOptions options_;
  fs::path target_;  // whose name is the model's
  std::optional<DType> dtype_;
  TensorList tensors_;
  WeightForm form_;
};

/// The first file that would be lost; empty when there is none.
std::string standing_file(const fs::path& directory, bool card) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (is_model_file(name) || (card && name == kCardFile)) return name;
  }
  return {};
}

void check_space(const DirectoryUpdate& update, const fs::path& directory, uint64_t bytes) {
  if (update.free_bytes() >= bytes) return;
  fail(ErrorKind::io, "cannot save the model in '", directory.string(), "': it needs ", format_bytes(bytes),
       ", but only ", format_bytes(update.free_bytes()),
       " are free there; free some space or save elsewhere");
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// What went wrong, with the sizes that matter when it was the disk.
[[noreturn]] void fail_save(const Error& error, const DirectoryUpdate& update, const fs::path& directory,
                            uint64_t bytes) {
  if (error.kind() != ErrorKind::io) throw error;
  fail(ErrorKind::io, "the model in '", directory.string(), "' was not changed: ", error.what(),
       " (saving needs ", format_bytes(bytes), "; ", format_bytes(update.free_bytes()), " are free)");
}

}  // namespace

std::vector<std::string> Model::save_pretrained(const fs::path& directory, const SaveOptions& options) const {
  check_options(options);
  Save save(*this, options, directory);
  DirectoryUpdate update(directory);
  const std::string standing = standing_file(directory, options.create_model_card);
  if (!standing.empty() && !options.overwrite) {
    fail(ErrorKind::invalid_argument, "'", directory.string(), "' already holds a ", standing,
         "; set overwrite (--overwrite) to replace the model there, or choose another directory");
  }
  const uint64_t bytes = save.weight_bytes() + kSpareBytes;
  check_space(update, directory, bytes);
  try {
    save.write(update.staging());
  } catch (const Error& error) {
    fail_save(error, update, directory, bytes);
  }
  update.commit();
  std::vector<std::string> told;
  if (!standing.empty()) told.push_back(concat(directory.string(), ": replaced the model that stood there"));
  const std::string left_out = options.huggingface ? "" : joined(keys_of_transformers(config()));
  if (!left_out.empty())
    told.push_back(concat(directory.string(), ": left out of config.json what only transformers reads: ",
                          left_out, "; save with huggingface (--huggingface) to have it"));
  return told;
}

}  // namespace bdh
