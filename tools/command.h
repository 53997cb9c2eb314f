// What the subcommands of `bdh` share: common options, loading, input, output that notices a full disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "bdh/pretrained/model.h"
#include "tools/interrupt.h"
#include "tools/progress.h"

namespace bdh::tools {

/// Each registers a subcommand: description, options, an example in its footer, and the callback that runs
/// it. Callbacks throw bdh::Error; main prints it as one line and exits with 1, or with 130 for
/// Error(cancelled).
void add_generate(CLI::App& app);
void add_chat(CLI::App& app);
void add_logits(CLI::App& app);
void add_eval(CLI::App& app);
void add_inspect(CLI::App& app);
void add_convert(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_memory(CLI::App& app);
void add_models(CLI::App& app);
void add_validate(CLI::App& app);
void add_bench(CLI::App& app);

struct CommonOptions {
  std::string directory;
  int threads = 0;              // 0: the cores
  std::string device = "auto";  // auto, cpu, cuda
  std::string dtype;            // "": as stored
  bool json = false;
};

/// --threads, --device.
void add_backend_options(CLI::App& command, CommonOptions& options);
/// DIR, --threads, --device.
void add_model_options(CLI::App& command, CommonOptions& options);
/// --dtype f32|bf16|f16.
void add_dtype_option(CLI::App& command, CommonOptions& options);
/// --json.
void add_json_option(CLI::App& command, CommonOptions& options);

/// How tokens are read: --form and --chunk.
struct FormOptions {
  std::string form;  // "": the command's default
  std::optional<int64_t> chunk;
};
void add_form_options(CLI::App& command, FormOptions& options);
/// "parallel", "chunked" or "recurrent".
Form parse_form(std::string_view name);

/// Loads the model directory; its warnings go to stderr.
Model load_model(const CommonOptions& options);
/// The model's tokenizer. Throws Error(unsupported) when it has none, or none that this build can read.
const Tokenizer& tokenizer_of(const Model& model);

/// The whole of a file, or of standard input for "-". Throws Error(bad_file) past max_bytes.
std::string read_input(const std::string& path, size_t max_bytes);

/// Writes to stdout and flushes. All of a command's results go through here. Throws Error(io) when stdout
/// cannot take it, and ClosedPipe when nobody reads it any more.
void write_out(std::string_view text);
struct ClosedPipe {};

/// Shows on `progress` how far the prompts are read, then writes text to stdout as it comes, if `streams`;
/// ends both at Ctrl-C. `progress` must outlive it.
GenerationCallbacks generation_callbacks(Progress& progress, bool streams = true);

/// "bdh: warning: ..." on stderr, one line.
void warn(std::string_view message);

/// The text with control characters, line breaks included, written as \n or \x1b: fit for one line of a
/// terminal.
std::string one_line(std::string_view text);

}  // namespace bdh::tools
