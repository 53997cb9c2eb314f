// Finds and opens the weights files of a model directory, whichever form they have.
#include "bdh/pretrained/weight_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/formats/shards.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/torch_support.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

struct Form {
  const char* file;
  std::string_view format;
  bool index;
};
constexpr std::array kForms{
    Form{kSafetensorsIndex, "safetensors", true},
    Form{kSafetensorsFile, "safetensors", false},
    Form{kTorchFile, "pt", false},
    Form{kTorchBinIndex, "pt", true},
    Form{kTorchBinFile, "pt", false},
};

void require_format(const std::string& format) {
  if (format == "auto" || format == "safetensors" || format == "pt") return;
  fail(ErrorKind::invalid_argument, "weights format must be auto, safetensors or pt, not ",
       printable(format));
}

std::vector<Form> forms_in(const fs::path& directory, const std::string& format) {
  std::vector<Form> found;
  std::error_code ignored;
  for (const Form& form : kForms) {
    if ((format == "auto" || format == form.format) && fs::exists(directory / form.file, ignored)) {
      found.push_back(form);
    }
  }
  return found;
}

[[noreturn]] void fail_without_weights(const fs::path& directory, const std::string& format) {
  const char* needed = format == "pt" ? "model.pt or pytorch_model.bin"
                       : format == "safetensors"
                           ? "model.safetensors or model.safetensors.index.json"
                           : "model.safetensors, model.safetensors.index.json, model.pt or "
                             "pytorch_model.bin";
  fail(ErrorKind::not_found, "'", directory.string(), "' has no weights; it needs ", needed,
       interrupted_update(directory));
}

void warn_of_choice(const fs::path& directory, const std::vector<Form>& forms,
                    std::vector<std::string>* warnings) {
  if (!warnings || forms.size() < 2) return;
  std::string others;
  for (size_t i = 1; i < forms.size(); ++i) others += concat(i > 1 ? ", " : "", forms[i].file);
  warnings->push_back(concat(directory.string(), ": reads ", forms.front().file, " and ignores ", others,
                             ", which also hold weights"));
}

void add_file(WeightFiles& weights, const fs::path& path, bool safetensors) {
  if (safetensors) {
    weights.files.push_back(SafetensorsFile::open(path));
  } else {
    weights.torch_files.push_back(open_torch_file(path));
  }
  weights.paths.push_back(path);
}

/// Names in the file that was opened last.
std::set<std::string> names_in_last(const WeightFiles& weights) {
  std::set<std::string> names;
  if (!weights.files.empty()) {
    for (const TensorInfo& info : weights.files.back().tensors()) names.insert(info.name);
  } else {
    for (const auto& [name, tensor] : weights.torch_files.back().tensors) names.insert(name);
    for (const auto& [name, error] : weights.torch_files.back().unreadable) names.insert(name);
  }
  return names;
}

WeightFiles open_shards(const fs::path& index, bool safetensors) {
  std::map<std::string, std::vector<std::string>> tensors_by_file;
  for (const auto& [tensor, file] : read_shard_index(index)) tensors_by_file[file].push_back(tensor);
  WeightFiles weights;
  weights.source = index;
  for (const auto& [file, tensors] : tensors_by_file) {
    add_file(weights, index.parent_path() / file, safetensors);
    const std::set<std::string> held = names_in_last(weights);
    for (const std::string& tensor : tensors) {
      if (held.contains(tensor)) continue;
      fail(ErrorKind::bad_file, index.string(), ": tensor ", printable(tensor), " should be in ",
           printable(file), " but is not");
    }
  }
  return weights;
}

WeightFiles open_single(const fs::path& path, bool safetensors) {
  WeightFiles weights;
  weights.source = path;
  add_file(weights, path, safetensors);
  return weights;
}

void add_tensor(TensorMap& tensors, const std::string& name, Tensor tensor, const fs::path& path) {
  if (tensors.emplace(name, std::move(tensor)).second) return;
  fail(ErrorKind::bad_file, path.string(), ": tensor ", printable(name),
       " stands in another shard too; each must stand once");
}

}  // namespace

TensorMap WeightFiles::state_dict() const {
  TensorMap tensors;
  for (const SafetensorsFile& file : files) {
    for (const TensorInfo& info : file.tensors()) {
      add_tensor(tensors, info.name, file.tensor(info.name), file.path());
    }
  }
  for (size_t i = 0; i < torch_files.size(); ++i) {
    for (const auto& [name, tensor] : torch_files[i].tensors) add_tensor(tensors, name, tensor, paths[i]);
  }
  return tensors;
}

Metadata WeightFiles::metadata() const {
  Metadata all;
  for (const SafetensorsFile& file : files) all.insert(file.metadata().begin(), file.metadata().end());
  return all;
}

Json WeightFiles::values() const {
  Json all = Json::Object{};
  for (const TorchFile& file : torch_files) {
    for (const auto& [key, value] : file.values.as_object()) {
      if (all.find(key) == nullptr) all.set(key, value);
    }
  }
  return all;
}

std::map<std::string, Error> WeightFiles::unreadable() const {
  std::map<std::string, Error> all;
  for (const TorchFile& file : torch_files) all.insert(file.unreadable.begin(), file.unreadable.end());
  return all;
}

WeightFiles find_weights(const fs::path& directory, std::vector<std::string>* warnings,
                         const std::string& format) {
  require_format(format);
  const std::vector<Form> forms = forms_in(directory, format);
  if (forms.empty()) fail_without_weights(directory, format);
  warn_of_choice(directory, forms, warnings);
  const Form& form = forms.front();
  const fs::path path = directory / form.file;
  const bool safetensors = form.format == "safetensors";
  WeightFiles weights = form.index ? open_shards(path, safetensors) : open_single(path, safetensors);
  for (const SafetensorsFile& file : weights.files) {
    const auto version = file.metadata().find("format_version");
    if (version == file.metadata().end()) continue;
    check_format_version(version->second, file.path().string(), warnings);
  }
  return weights;
}

WeightFiles open_weights_file(const fs::path& path) {
  return open_single(path, path.extension() == ".safetensors");
}

void check_format_version(const std::string& version, const std::string& source,
                          std::vector<std::string>* warnings) {
  if (!warnings) return;
  int64_t number = 0;
  const char* last = version.data() + version.size();
  const auto [end, error] = std::from_chars(version.data(), last, number);
  if (error != std::errc() || end != last) {
    warnings->push_back(
        concat(source, ": format_version ", printable(version), " is no whole number; ignored"));
  } else if (number > kFormatVersion) {
    warnings->push_back(concat(source, ": format version ", number, " is newer than this build's ",
                               kFormatVersion, "; loading it anyway"));
  }
}

}  // namespace bdh
