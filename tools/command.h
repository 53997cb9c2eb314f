// What the subcommands of `bdh` share: common options, loading, input.
#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "bdh/pretrained/adapters/lora.h"
#include "bdh/pretrained/model.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/options.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"

namespace bdh::tools {

/// Each declares a subcommand: description, options, an example in its footer, and what runs it, which throws
/// bdh::Error for a failure and UsageError for arguments that make no sense together.
void add_generate(Command& program);
void add_chat(Command& program);
void add_train(Command& program);
void add_logits(Command& program);
void add_gradients(Command& program);
void add_eval(Command& program);
void add_horizon(Command& program);
void add_checkpoints(Command& program);
void add_inspect(Command& program);
void add_convert(Command& program);
void add_quantize(Command& program);
void add_adapter(Command& program);
void add_tokenize(Command& program);
void add_memory(Command& program);
void add_models(Command& program);
void add_validate(Command& program);
void add_serve(Command& program);  // where the build has it

struct CommonOptions {
  std::string directory;
  int threads = 0;              // 0: the cores
  std::string device = "auto";  // auto, cpu, cuda
  std::string dtype;            // "": as stored
  std::string state_dtype = "f32";
  std::vector<std::string> adapters;  // DIR or DIR:SCALE
  bool json = false;
};

/// --threads, --device.
void add_backend_options(Command& command, CommonOptions& options);
/// DIR, --threads, --device.
void add_model_options(Command& command, CommonOptions& options);
/// --adapter, which load_model heeds.
void add_adapter_option(Command& command, CommonOptions& options);
/// --dtype f32|bf16|f16.
void add_dtype_option(Command& command, CommonOptions& options);
/// --json.
void add_json_option(Command& command, CommonOptions& options);

/// --horizon: "" where it was not given, else fit for parse_horizon. `otherwise`: what goes without it.
Option add_horizon_option(Command& command, std::string& horizon, const std::string& otherwise);
/// --state-dtype f32|bf16.
void add_state_dtype_option(Command& command, CommonOptions& options);
/// The session's options that --horizon and --state-dtype stand for.
SessionOptions session_options(const std::string& horizon, const CommonOptions& options);

/// How tokens are read: --form and --chunk.
struct FormOptions {
  std::string form;  // "": the command's default
  std::optional<int64_t> chunk;
};
void add_form_options(Command& command, FormOptions& options);
/// "parallel", "chunked" or "recurrent".
Form parse_form(std::string_view name);

/// The number that all of the text is; none where it is something else.
template <class T>
std::optional<T> parse_number(const std::string& text) {
  T number{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end ? std::optional(number) : std::nullopt;
}

/// What pictures call a file or directory: its name without the folders above it.
std::string short_name(const std::filesystem::path& path);

/// PATH, or PATH:SCALE where what follows the last colon is a number.
std::string adapter_path(const std::string& given);
AppliedAdapter applied_adapter(const std::string& given, const Config& config);

/// --device, --threads and --dtype.
LoadOptions load_options(const CommonOptions& options);
/// Loads the model directory and merges the adapters into it, or has them beside quantized weights; its
/// warnings go to stderr.
Model load_model(const CommonOptions& options);
/// The model's tokenizer. Throws Error(unsupported) when it has none, or none that this build can read.
const Tokenizer& tokenizer_of(const Model& model);

/// The whole of a file, or of standard input for "-". Throws Error(bad_file) past max_bytes.
std::string read_input(const std::string& path, size_t max_bytes);

/// What to say of a text of `tokens` in all that goes past the block the model was trained on; "" where it
/// does not, or where a horizon takes it further.
std::string past_block_warning(const Model& model, const std::vector<float>& horizon, int64_t tokens);

/// Shows on `progress` how far the prompts are read, then writes text to stdout as it comes, if `streams`;
/// ends both at Ctrl-C. `progress` must outlive it.
GenerationCallbacks generation_callbacks(Progress& progress, bool streams = true);

}  // namespace bdh::tools
