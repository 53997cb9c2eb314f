// Flags to JSON, and JSON to the options of a run.
#include "tools/training/options.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>
#include <variant>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "tools/registry/registry.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxOptionsBytes = 1'000'000;

// ---- RunOptions: a table of its own, because only the command knows of them

using Member =
    std::variant<std::string RunOptions::*, std::vector<std::string> RunOptions::*, bool RunOptions::*>;

struct RunOption {
  const char* name;
  Member member;
  bool path;  // of a file: kept absolute
  const char* help;
};

constexpr const char* kRunGroup = "What is read, and what is left";
constexpr std::array kRunOptions{
    RunOption{"data", &RunOptions::data, true, "a text, .jsonl, or a folder of them; may be repeated"},
    RunOption{"text_field", &RunOptions::text_field, false, "field of .jsonl lines that has the text"},
    RunOption{"valid", &RunOptions::valid, true, "a text to validate on; by default the end of the data"},
    RunOption{"batches", &RunOptions::batches, true,
              "in the place of --data: exactly the `tokens` (steps, B, T + 1) of this safetensors file"},
    RunOption{"tokenizer", &RunOptions::tokenizer, true,
              "directory of a tokenizer.json; by default that of --from, or bytes"},
    RunOption{"from", &RunOptions::from, true, "start from the weights of this model, at step 0"},
    RunOption{"adapter", &RunOptions::adapter, true,
              "with --lora: start from this adapter of the same rank, alpha and targets"},
    RunOption{"config", &RunOptions::config, true,
              "config.json of a new model; by default the authors' sizes"},
    RunOption{"huggingface", &RunOptions::huggingface, false, "write what transformers needs, too"},
    RunOption{"version", &RunOptions::version, false, "version of the model that is written, as v1.0"},
    RunOption{"register", &RunOptions::name, false,
              "put the model into the registry ($BDH_REGISTRY, or ./model_registry.json) under this name"},
};

Json value_of(const RunOptions& run, const RunOption& option) {
  if (const auto* text = std::get_if<std::string RunOptions::*>(&option.member)) return run.*(*text);
  if (const auto* on = std::get_if<bool RunOptions::*>(&option.member)) return run.*(*on);
  const auto& texts = run.*std::get<std::vector<std::string> RunOptions::*>(option.member);
  return Json::Array(texts.begin(), texts.end());
}

void put(const Json& value, std::string& text) { text = value.as_string(); }
void put(const Json& value, bool& on) { on = value.as_bool(); }
void put(const Json& value, std::vector<std::string>& texts) {
  texts.clear();
  if (value.is_string()) return texts.push_back(value.as_string());
  for (const Json& text : value.as_array()) texts.push_back(text.as_string());
}

/// False where the key is none of RunOptions.
bool set_member(RunOptions& run, const Json::Member& given, std::string_view source) {
  const auto* option = std::find_if(kRunOptions.begin(), kRunOptions.end(),
                                    [&](const RunOption& known) { return given.first == known.name; });
  if (option == kRunOptions.end()) return false;
  try {
    std::visit([&](auto member) { put(given.second, run.*member); }, option->member);
  } catch (const Error& error) {
    fail(ErrorKind::bad_file, source, ": ", given.first, ": ", error.what());
  }
  return true;
}

/// Of every path that there is.
template <class Change>
void for_each_path(RunOptions& run, const Change& change) {
  for (const RunOption& option : kRunOptions) {
    const auto* text = std::get_if<std::string RunOptions::*>(&option.member);
    if (text && option.path && !(run.*(*text)).empty()) change(run.*(*text));
  }
  for (std::string& path : run.data) change(path);
}

void make_absolute(RunOptions& run) {
  for_each_path(run, [](std::string& path) { path = fs::absolute(path).lexically_normal().string(); });
}

// ---- flags

std::string flag_of(std::string_view name) {
  std::string flag = "--" + std::string(name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

/// "; default 3000", where there is one worth saying.
std::string default_of(const Json& value) {
  if (value.is_number() && value.as_number() != 0) return "; default " + value.dump();
  if (value.is_string() && !value.as_string().empty()) return "; default " + value.as_string();
  return "";
}

/// What --help shows for a value such as this.
const char* placeholder_of(const Json& value) {
  return value.is_integer() ? "N" : value.is_number() ? "X" : "TEXT";
}

/// The value of a flag. A switch by itself is true.
Json parsed(const TrainOption& option, const std::string& text) {
  return option.parse(option.is_switch() && text.empty() ? "true" : text);
}

void add_train_option(Command& command, const TrainOption& option, GivenFlag& given, const Json& value) {
  const ValueCheck check = [&option](const std::string& text) -> std::string {
    try {
      parsed(option, text);
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  };
  const bool chosen = value.is_string() && option.name != "sample_prompt";
  Option flag = command.option(flag_of(option.name), &given.value,
                               option.help + (chosen ? concat(": ", option.rule) : "") + default_of(value));
  flag.check(check).group(option.group).placeholder(placeholder_of(value));
  if (option.is_switch()) flag.value_optional("[false]");
}

void add_run_option(Command& command, const RunOption& option, GivenFlag& given, const Json& value) {
  const bool repeats = value.is_array();
  Option flag = command.option(flag_of(option.name), repeats ? Target(&given.values) : Target(&given.value),
                               option.help + default_of(value));
  flag.group(kRunGroup);
  if (value.is_bool()) flag.value_optional("[false]");
  if (option.path) flag.placeholder("PATH");
}

Json switch_of(const RunOption& option, const std::string& text) {
  if (!text.empty() && text != "true" && text != "false")
    throw UsageError(concat(flag_of(option.name), ": must be true or false, not ", text));
  return text != "false";
}

/// The flags that were given, by key.
Json given_options(const TrainFlags& flags) {
  Json json = Json::Object{};
  for (size_t i = 0; i < kRunOptions.size(); ++i) {
    const RunOption& option = kRunOptions[i];
    const GivenFlag& given = flags.run_given[i];
    const bool is_switch = std::holds_alternative<bool RunOptions::*>(option.member);
    if (given.value) json.set(option.name, is_switch ? switch_of(option, *given.value) : Json(*given.value));
    if (!given.values.empty()) json.set(option.name, Json::Array(given.values.begin(), given.values.end()));
  }
  for (size_t i = 0; i < train_options().size(); ++i)
    if (const auto& text = flags.train_given[i].value)
      json.set(train_options()[i].name, parsed(train_options()[i], *text));
  return json;
}

void check(const TrainSettings& settings) {
  const RunOptions& run = settings.run;
  if (run.data.empty() && run.batches.empty())
    throw UsageError("there is nothing to train on: give --data FILE, or --batches FILE");
  if (!run.data.empty() && !run.batches.empty())
    throw UsageError("--batches is all that is read: leave out --data");
  if (settings.train.lora.on && run.from.empty())
    throw UsageError("--lora trains an adapter of a model: name it as --from");
  if (!settings.train.lora.on && !run.adapter.empty())
    throw UsageError(
        "--adapter is where --lora starts: give that too, or merge the adapter (bdh adapter merge)");
  if (!run.version.empty() && !is_version(run.version))
    throw UsageError(concat("--version must be one such as v1.0, not ", run.version));
  if (!run.name.empty() && run.version.empty())
    throw UsageError("--register needs the --version to register");
  settings.train.validate();
}

// ---- the command that makes a run again

std::string shell_word(const std::string& word) {
  if (!word.empty() && word.find_first_of(" \t\n'\"\\$&|;<>()*?[]{}#~`!") == word.npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

/// As one would type it: from here, where it lies below.
std::string typed_path(const std::string& path) {
  const fs::path below = fs::path(path).lexically_relative(fs::current_path());
  return below.empty() || *below.begin() == ".." ? path : below.string();
}

/// The settings with paths as one would type them.
TrainSettings with_typed_paths(TrainSettings settings) {
  for_each_path(settings.run, [](std::string& path) { path = typed_path(path); });
  return settings;
}

/// What stands after a flag so that it gets this value.
std::string word_of(const Json& value) {
  if (value.is_string()) return shell_word(value.as_string());
  if (!value.is_array()) return value.is_null() ? "none" : value.dump();
  std::string list;
  for (const Json& part : value.as_array())
    list += (list.empty() ? "" : ",") + (part.is_string() ? part.as_string() : part.dump());
  return shell_word(list);
}

std::string words_of(const std::string& flag, const Json& value) {
  if (value == Json(true)) return " " + flag;
  return " " + flag + " " + word_of(value);
}

}  // namespace

Json TrainSettings::to_json() const {
  Json json = Json::Object{};
  for (const RunOption& option : kRunOptions) json.set(option.name, value_of(run, option));
  const Json training = train.to_json();
  for (const auto& [key, value] : training.as_object()) json.set(key, value);
  return json;
}

void TrainSettings::set(const Json& json, std::string_view source) {
  if (!json.is_object()) fail(ErrorKind::bad_file, source, ": must be a JSON object of options");
  Json others = Json::Object{};
  for (const Json::Member& member : json.as_object())
    if (!set_member(run, member, source)) others.set(member.first, member.second);
  train.set(others, source);
}

void add_train_flags(Command& command, TrainFlags& flags) {
  command.option("--out", &flags.out, "the run's folder: checkpoints, metrics, the model")
      .required()
      .placeholder("DIR");
  command.option("--options", &flags.options_file, "options as JSON, as OUT/options.json has them; flags win")
      .placeholder("FILE");
  command
      .option("--resume", &flags.resume,
              "go on where the run in --out stands, or from this checkpoint (PyTorch's, .pt, too)")
      .value_optional("[PATH|latest]");
  command.flag("--allow-changed-data", &flags.allow_changed_data,
               "resume although data, tokenizer or order are not the checkpoint's");
  command.option("--cache", &flags.cache, "folder of token caches; default OUT/cache").placeholder("DIR");
  add_backend_options(command, flags.common);
  add_json_option(command, flags.common);
  const Json defaults = TrainSettings().to_json();
  flags.run_given.resize(kRunOptions.size());
  for (size_t i = 0; i < kRunOptions.size(); ++i)
    add_run_option(command, kRunOptions[i], flags.run_given[i], *defaults.find(kRunOptions[i].name));
  const auto options = train_options();
  flags.train_given.resize(options.size());
  for (size_t i = 0; i < options.size(); ++i)
    add_train_option(command, options[i], flags.train_given[i], *defaults.find(options[i].name));
}

void set_from_file(TrainSettings& settings, const fs::path& file) {
  settings.set(Json::parse(read_text(file, kMaxOptionsBytes), file.string()), file.string());
}

TrainSettings with_flags(TrainSettings settings, const TrainFlags& flags) {
  if (!flags.options_file.empty()) set_from_file(settings, flags.options_file);
  settings.set(given_options(flags), "the command line");
  make_absolute(settings.run);
  check(settings);
  return settings;
}

std::string command_line(const TrainSettings& settings, const std::string& out) {
  const Json json = with_typed_paths(settings).to_json(), defaults = TrainSettings().to_json();
  std::string line = "bdh train --out " + shell_word(out);
  for (const auto& [key, value] : json.as_object()) {
    if (value == *defaults.find(key)) continue;
    const std::string flag = flag_of(key);
    if (key != "data") {
      line += words_of(flag, value);
      continue;
    }
    for (const Json& path : value.as_array()) line += words_of(flag, path);
  }
  return line;
}

}  // namespace bdh::tools
