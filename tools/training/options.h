// The options of `bdh train`: those of the training, of what it reads and of what it leaves, as flags and as
// JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/train/options.h"
#include "tools/command.h"

namespace bdh::tools {

/// What a run reads and leaves, beside TrainOptions. Paths are absolute; "" is none.
struct RunOptions {
  std::vector<std::string> data;  // files and folders
  std::string text_field = "text";
  std::string valid;      // a text
  std::string batches;    // safetensors, in the place of data
  std::string tokenizer;  // a model directory
  std::string from;       // a model directory or weights file
  std::string adapter;    // that --lora starts from: PEFT's directory, or a file
  std::string config;     // config.json of a new model
  std::string version;    // "v1.0"
  std::string name;       // in the registry
  bool huggingface = false;
};

struct TrainSettings {
  TrainOptions train;
  RunOptions run;

  /// Every key, as OUT/options.json has them.
  Json to_json() const;
  /// Sets the keys that the object has. Throws Error(bad_file) naming `source` and the key.
  void set(const Json& json, std::string_view source);
};

/// A flag as it was given.
struct GivenFlag {
  std::optional<std::string> value;
  std::vector<std::string> values;  // of one that may be repeated
};

struct TrainFlags {
  CommonOptions common;  // threads, device, json
  std::string out;
  std::string options_file;
  std::optional<std::string> resume;  // a checkpoint; "" or "latest": the newest
  bool allow_changed_data = false;
  std::string cache;                              // folder of token caches; "": OUT/cache
  std::vector<GivenFlag> train_given, run_given;  // one for each row of their tables
};

/// Declares every flag. `flags` must outlive the parsing.
void add_train_flags(Command& command, TrainFlags& flags);

/// A file such as OUT/options.json. Throws as TrainSettings::set, Error(not_found), Error(io).
void set_from_file(TrainSettings& settings, const std::filesystem::path& file);

/// `settings` with those of the --options file, then those of the flags, and checked together. Throws
/// UsageError, and Error naming the option.
TrainSettings with_flags(TrainSettings settings, const TrainFlags& flags);

/// The command that makes the run again: every option that is not the default.
std::string command_line(const TrainSettings& settings, const std::string& out);

}  // namespace bdh::tools
