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
#include "bdh/model/packed_layout.h"
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
// In the order in which transformers looks for them; model.pt is ours.
constexpr std::array kForms{
    Form{kSafetensorsFile, "safetensors", false},
    Form{kSafetensorsIndex, "safetensors", true},
    Form{kTorchFile, "pt", false},
    Form{kTorchBinFile, "pt", false},
    Form{kTorchBinIndex, "pt", true},
};

// Metadata of a training run's checkpoints: the state of the run, with the model's config.
constexpr const char* kTrainingRun = "bdh.run";

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

bool looks_like_weights(const fs::path& path) {
  constexpr std::string_view kEndings[] = {".pt", ".pth", ".ckpt", ".bin", ".npz", ".safetensors"};
  return std::find(std::begin(kEndings), std::end(kEndings), path.extension().string()) != std::end(kEndings);
}

[[noreturn]] void fail_without_weights(const fs::path& directory, const std::string& format) {
  const char* needed = format == "pt" ? "model.pt or pytorch_model.bin"
                       : format == "safetensors"
                           ? "model.safetensors or model.safetensors.index.json"
                           : "model.safetensors, model.safetensors.index.json, model.pt or "
                             "pytorch_model.bin";
  fail(ErrorKind::not_found, "'", directory.string(), "' has no weights; it needs ", needed,
       interrupted_update(directory), other_weights(directory));
}

/// model.safetensors and model.pt together are how document 000 saves a model, twice the same.
bool is_saved_twice(const std::vector<Form>& forms) {
  return forms.size() == 2 && forms[0].file == std::string_view(kSafetensorsFile) &&
         forms[1].file == std::string_view(kTorchFile);
}

void warn_of_choice(const fs::path& directory, const std::vector<Form>& forms,
                    std::vector<std::string>* warnings) {
  if (!warnings || forms.size() < 2 || is_saved_twice(forms)) return;
  std::string others;
  for (size_t i = 1; i < forms.size(); ++i)
    others +=
        concat(i > 1 ? ", " : "", forms[i].file, forms[i].index ? " (an older save's, by its look)" : "");
  warnings->push_back(concat(directory.string(), ": reads ", forms.front().file, " and ignores ", others,
                             "; remove what is left over"));
}

void add_file(WeightFiles& weights, const fs::path& path, bool safetensors) {
  if (safetensors) {
    weights.files.push_back(SafetensorsFile::open(path));
  } else {
    weights.torch_files.push_back(open_torch_file(path));
  }
  weights.paths.push_back(path);
}

/// Names in the i-th file.
std::set<std::string> names_in(const WeightFiles& weights, size_t i) {
  std::set<std::string> names;
  if (i < weights.files.size()) {
    for (const TensorInfo& info : weights.files[i].tensors()) names.insert(info.name);
  } else {
    for (const auto& [name, tensor] : weights.torch_files[i].tensors) names.insert(name);
    for (const auto& [name, error] : weights.torch_files[i].unreadable) names.insert(name);
  }
  return names;
}

WeightFiles open_shards(const fs::path& index, bool safetensors) {
  std::map<std::string, std::vector<std::string>> tensors_by_file;
  for (const auto& [tensor, file] : read_shard_index(index)) tensors_by_file[file].push_back(tensor);
  WeightFiles weights;
  weights.source = index;
  for (const auto& [file, tensors] : tensors_by_file) {
    const size_t place = weights.paths.size();
    add_file(weights, index.parent_path() / file, safetensors);
    const std::set<std::string> held = names_in(weights, place);
    for (const std::string& tensor : tensors) {
      if (held.contains(tensor)) {
        weights.places[tensor] = place;
      } else {
        weights.missing.emplace(
            tensor, Error(ErrorKind::bad_file, concat(index.string(), ": tensor ", printable(tensor),
                                                      " should be in ", printable(file), " but is not")));
      }
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

}  // namespace

bool WeightFiles::counts(const std::string& name, size_t file) const {
  const auto place = places.find(name);
  return place == places.end() || place->second == file;
}

TensorMap WeightFiles::state_dict() const {
  TensorMap tensors;
  for (size_t i = 0; i < files.size(); ++i) {
    for (const TensorInfo& info : files[i].tensors()) {
      if (info.usable() && counts(info.name, i))
        tensors.insert_or_assign(info.name, files[i].tensor(info.name));
    }
  }
  for (size_t i = 0; i < torch_files.size(); ++i) {
    for (const auto& [name, tensor] : torch_files[i].tensors) {
      if (counts(name, i)) tensors.insert_or_assign(name, tensor);
    }
  }
  return tensors;
}

std::map<std::string, Error> WeightFiles::unreadable() const {
  std::map<std::string, Error> all = missing;
  for (const SafetensorsFile& file : files) {
    for (const TensorInfo& info : file.tensors()) {
      if (!info.usable()) all.emplace(info.name, file.refusal(info));
    }
  }
  for (const TorchFile& file : torch_files) all.insert(file.unreadable.begin(), file.unreadable.end());
  return all;
}

Metadata WeightFiles::metadata() const {
  Metadata all;
  for (const SafetensorsFile& file : files) all.insert(file.metadata().begin(), file.metadata().end());
  return all;
}

bool WeightFiles::packed() const { return metadata().contains(kLayoutKey); }

Json WeightFiles::values() const {
  Json all = Json::Object{};
  for (const TorchFile& file : torch_files) {
    for (const auto& [key, value] : file.values.as_object()) {
      if (all.find(key) == nullptr) all.set(key, value);
    }
  }
  for (const SafetensorsFile& file : files) {
    const auto run = file.metadata().find(kTrainingRun);
    if (run == file.metadata().end()) continue;
    const Json state = Json::parse(run->second, concat(file.path().string(), ": ", kTrainingRun));
    if (const Json* config = state.find("config")) all.set("config", *config);
  }
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

std::string other_weights(const fs::path& directory) {
  std::error_code ignored;
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory, ignored))
    if (looks_like_weights(entry.path())) names.insert(entry.path().filename().string());
  if (names.empty()) return {};
  const char* more = names.size() > 1 ? " or another weights file there" : "";
  return concat("; give ", printable(*names.begin()), more, " itself, if that is the model");
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
