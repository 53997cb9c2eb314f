// Validation: a list of checks, each of which finds its part of the directory right or says what is wrong.
#include "bdh/pretrained/validate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/model_files.h"
#include "kernels/backends.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlock = int64_t{1} << 14;  // numbers looked at together: they stay in the first caches
constexpr int64_t kTestTokens = 8;
constexpr const char* kTestPrompt = "Hello";

struct Finding {
  Verdict verdict = Verdict::passed;
  std::string detail;
};

Finding passed(std::string detail) { return {Verdict::passed, std::move(detail)}; }
Finding skipped(std::string detail) { return {Verdict::skipped, std::move(detail)}; }

Finding with_warnings(std::string detail, const std::vector<std::string>& warnings) {
  Finding finding = passed(std::move(detail));
  for (const std::string& warning : warnings) {
    finding.verdict = Verdict::warned;
    finding.detail += "; " + warning;
  }
  return finding;
}

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string dialect_note(const ImportedTensors& weights) {
  if (weights.dialect.empty() || weights.dialect == kReferenceDialect) return {};
  return concat(", after translation from ", weights.dialect, " (", weights.origin, ")");
}

// ---- values ----

struct Values {
  int64_t bad = 0;         // NaN or infinite
  int64_t first_bad = -1;  // its place in the tensor
  float largest = 0.0f;    // of the absolute values that are finite
};

void look_at(std::span<const float> block, int64_t first, Values& values) {
  for (size_t i = 0; i < block.size(); ++i) {
    if (std::isfinite(block[i])) {
      values.largest = std::max(values.largest, std::fabs(block[i]));
      continue;
    }
    if (values.bad++ == 0) values.first_bad = first + static_cast<int64_t>(i);
  }
}

class ValueScan {
 public:
  ValueScan(const TensorMap& tensors, const ValidateOptions& options) : options_(options) {
    for (const auto& [name, tensor] : tensors) total_ += tensor.bytes();
  }

  Values scan(const Tensor& tensor) {
    Values values;
    const size_t size = size_of(tensor.dtype);
    for (int64_t first = 0; first < tensor.numel(); first += kBlock) {
      const int64_t count = std::min(kBlock, tensor.numel() - first);
      stored_.resize(static_cast<size_t>(count) * size);
      copy_row_major(tensor, first, count, stored_.data());
      numbers_.resize(static_cast<size_t>(count));
      convert(tensor.dtype, stored_.data(), DType::f32, numbers_.data(), static_cast<size_t>(count));
      look_at(numbers_, first, values);
      advance(static_cast<size_t>(count) * size);
    }
    if (tensor.contiguous()) release(tensor, 0, tensor.bytes());
    return values;
  }

 private:
  void advance(uint64_t bytes) {
    done_ += bytes;
    if (options_.progress && !options_.progress(done_, total_))
      fail(ErrorKind::cancelled, "validation was stopped");
  }

  const ValidateOptions& options_;
  uint64_t done_ = 0, total_ = 0;
  std::vector<std::byte> stored_;
  std::vector<float> numbers_;
};

// ---- the checks ----

class Validation {
 public:
  Validation(fs::path directory, const ValidateOptions& options)
      : directory_(std::move(directory)), options_(options) {}

  std::vector<Check> run() {
    const bool files = check("files", true, [&] { return files_there(); });
    const bool config = check("config", files, [&] { return config_reads(); });
    const bool weights = check("weights", files, [&] { return weights_open(); });
    const bool tensors = check("tensors", config && weights, [&] { return tensors_fit(); });
    check("values", weights, [&] { return values_are_finite(); });
    check("hashes", weights, [&] { return hashes_agree(); });
    const bool tokenizer = check("tokenizer", config && tensors, [&] { return tokenizer_fits(); });
    const bool settings = check("settings", files, [&] { return settings_read(); });
    check("generation", tensors && tokenizer && settings, [&] { return generates(); });
    return std::move(checks_);
  }

 private:
  /// Runs a check unless what it depends on failed; returns whether others may depend on it.
  template <class Find>
  bool check(const char* name, bool possible, const Find& find) {
    Finding finding = skipped("depends on what failed above");
    if (possible) finding = find_or_fail(find);
    checks_.push_back({name, finding.verdict, std::move(finding.detail)});
    if (options_.on_check) options_.on_check(checks_.back());
    return possible && checks_.back().verdict != Verdict::failed;
  }

  template <class Find>
  static Finding find_or_fail(const Find& find) {
    try {
      return find();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::cancelled) throw;
      return {Verdict::failed, error.what()};
    }
  }

  Finding files_there() const {
    if (model_folder(directory_) != directory_)
      fail(ErrorKind::invalid_argument, "'", directory_.string(),
           "' is a file, and a model directory is wanted; bdh convert makes one of it");
    std::error_code error;
    if (fs::status(directory_, error).type() != fs::file_type::directory) read_config(directory_);
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(directory_, error)) {
      const std::string name = entry.path().filename().string();
      if (is_model_file(name)) found.insert(printable(name));
    }
    if (error) fail(ErrorKind::io, "cannot list '", directory_.string(), "': ", error.message());
    if (found.empty())
      fail(ErrorKind::not_found, "'", directory_.string(),
           "' holds no file of a model; it needs config.json and ", "model.safetensors");
    std::string names;
    for (const std::string& name : found) names += (names.empty() ? "" : ", ") + name;
    return passed(names);
  }

  Finding config_reads() {
    std::vector<std::string> warnings;
    config_ = read_config(directory_, &warnings);
    const char* weights = config_->tie_layers ? "" : " with weights of their own";
    return with_warnings(
        concat(config_->n_layer, " layers", weights, ", width ", config_->n_embd, ", ", config_->n_head,
               " heads of ", config_->neurons_per_head(), " neurons, vocabulary ", config_->vocab_size, ", ",
               config_->parameters(), " parameters"),
        warnings);
  }

  Finding weights_open() {
    std::vector<std::string> warnings;
    files_ = find_weights(directory_, &warnings);
    tensors_ = files_.state_dict();
    size_t bytes = 0;
    for (const auto& [name, tensor] : tensors_) bytes += tensor.bytes();
    return with_warnings(
        concat(files_.source.filename().string(), ": ", tensors_.size(), " tensors, ", format_bytes(bytes),
               " in ", files_.paths.size(), files_.paths.size() == 1 ? " file" : " files"),
        warnings);
  }

  Finding tensors_fit() {
    std::vector<std::string> warnings;
    const ImportedModel model = open_model(directory_).model;
    const Weights weights(model.config, model.weights.tensors,
                          make_backend(options_.device, options_.threads), {}, files_.source.string(),
                          &warnings);
    return with_warnings(concat("names and shapes as config.json makes them", dialect_note(model.weights),
                                "; ", weights.dtype_name()),
                         warnings);
  }

  Finding values_are_finite() const {
    ValueScan scan(tensors_, options_);
    float largest = 0.0f;
    std::vector<std::string> warnings;
    for (const auto& [name, tensor] : tensors_) {
      if (!is_weight_dtype(tensor.dtype)) continue;
      const Values values = scan.scan(tensor);
      if (values.bad > 0)
        fail(ErrorKind::bad_file, files_.source.string(), ": tensor ", printable(name), " has ", values.bad,
             " numbers that are NaN or infinite, the first at ", values.first_bad,
             "; the model was saved after training had failed, or the file is damaged");
      if (values.largest == 0.0f && tensor.numel() > 0)
        warnings.push_back(concat("tensor ", printable(name), " is all zeros"));
      largest = std::max(largest, values.largest);
    }
    return with_warnings(concat("all finite; the largest is ", largest), warnings);
  }

  Finding hashes_agree() const {
    if (!present(directory_ / kMetadataFile)) return skipped("there is no metadata.json to compare with");
    if (read_model_metadata(directory_).weights.empty()) return skipped("metadata.json holds no hashes");
    verify_weights(directory_, files_.paths);
    return passed("the weights files are those that metadata.json describes");
  }

  Finding tokenizer_fits() {
    LoadOptions load;
    load.device = options_.device;
    load.threads = options_.threads;
    model_ = Model::from_pretrained(directory_, load);
    const TokenizerSource& source = model_->tokenizer_source;
    if (!model_->tokenizer && source.kind.empty()) {
      const std::string reason = source.unread.empty()
                                     ? "there is no tokenizer.json, and the model is not byte-level"
                                     : source.unread + ", which bdh does not read";
      return {Verdict::warned, reason + ": it reads tokens, no text"};
    }
    if (!model_->tokenizer) return {Verdict::warned, "this build reads no tokenizer.json"};
    const int64_t tokens = model_->tokenizer->vocab_size();
    const std::string detail = concat(source.kind == kBytesKind ? "bytes as tokens" : source.kind, ": ",
                                      tokens, " tokens of the vocabulary's ", config_->vocab_size);
    if (tokens <= config_->vocab_size) return passed(detail);
    if (source.kind == kByt5Kind) return {Verdict::warned, detail + ", which has all that text needs"};
    fail(ErrorKind::bad_file, "the tokenizer has ", tokens, " tokens, but the model's vocabulary is ",
         config_->vocab_size, "; the two belong to different models");
  }

  Finding settings_read() const {
    std::string found;
    std::vector<std::string> warnings;
    for (const char* name : {kGenerationFile, kTrainingArgsFile, kMetadataFile}) {
      const fs::path path = directory_ / name;
      if (!present(path)) continue;
      const Json json = Json::parse(read_text(path, kMaxSettingsBytes), path.string());
      if (name == kGenerationFile) {
        const GenerationConfig generation = GenerationConfig::from_json(json, path.string());
        if (config_)
          for (const std::string& useless : generation.useless_options(config_->vocab_size))
            warnings.push_back(concat(name, ": ", useless));
      }
      if (name == kMetadataFile) read_model_metadata(directory_);
      found += concat(found.empty() ? "" : ", ", name);
    }
    return with_warnings(found.empty() ? "none beside config.json; defaults hold" : found, warnings);
  }

  Finding generates() const {
    model_->generation.require_possible(config_->vocab_size);
    Session session(model_->weights);
    std::vector<int32_t> tokens;
    if (model_->tokenizer) tokens = model_->tokenizer->encode(kTestPrompt);
    if (tokens.empty()) tokens.push_back(0);
    for (int64_t i = 0; i < kTestTokens; ++i) {
      const std::vector<float> logits = session.read(i == 0 ? std::span(tokens) : std::span(tokens).last(1));
      if (!std::all_of(logits.begin(), logits.end(), [](float value) { return std::isfinite(value); }))
        fail(ErrorKind::bad_file, "the logits after ", tokens.size(),
             " tokens are not finite; the weights are unusable");
      tokens.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
    return passed(concat(kTestTokens, " tokens on ", model_->weights->backend().name()));
  }

  static constexpr size_t kMaxSettingsBytes = 16'000'000;

  fs::path directory_;
  const ValidateOptions& options_;
  std::vector<Check> checks_;
  std::optional<Config> config_;
  WeightFiles files_;
  TensorMap tensors_;
  std::optional<Model> model_;
};

}  // namespace

std::string_view name_of(Verdict verdict) {
  constexpr std::array<std::string_view, 4> names{"passed", "warned", "failed", "skipped"};
  return names[static_cast<size_t>(verdict)];
}

std::vector<Check> validate(const fs::path& directory, const ValidateOptions& options) {
  return Validation(directory, options).run();
}

}  // namespace bdh
