// What the subcommands of `bdh` share: common options, loading, input.
#include "tools/command.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <system_error>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/model/horizon.h"
#include "bdh/pretrained/adapters/load_adapter.h"

namespace bdh::tools {
namespace {

constexpr int kMaxThreads = 1024;

std::string read_stdin(size_t max_bytes) {
  std::string text;
  char buffer[1 << 16];
  while (const size_t got = std::fread(buffer, 1, sizeof buffer, stdin)) {
    text.append(buffer, got);
    if (text.size() > max_bytes)
      fail(ErrorKind::bad_file, "standard input is longer than ", max_bytes, " bytes");
  }
  stop_if_interrupted();
  if (std::ferror(stdin))
    fail(ErrorKind::io, "cannot read standard input: ", std::generic_category().message(errno));
  return text;
}

struct ScaledPath {
  std::string path;
  double scale = 1;
};

ScaledPath scaled_path(const std::string& given) {
  const size_t colon = given.rfind(':');
  const auto scale =
      colon == std::string::npos ? std::nullopt : parse_number<double>(given.substr(colon + 1));
  if (!scale || !std::isfinite(*scale)) return {given};
  return {given.substr(0, colon), *scale};
}

}  // namespace

void add_backend_options(Command& command, CommonOptions& options) {
  command.option("--threads", &options.threads, "CPU threads; 0, the default, takes every core")
      .range(0, kMaxThreads);
  command.option("--device", &options.device, "auto, cpu or cuda; auto is the default");
}

void add_model_options(Command& command, CommonOptions& options) {
  command
      .option("DIR", &options.directory,
              "model directory: config.json and model.safetensors; or a weights file by itself")
      .required();
  add_backend_options(command, options);
}

void add_adapter_option(Command& command, CommonOptions& options) {
  command.option("--adapter", &options.adapters,
                 "LoRA adapter that is added to the weights: PEFT's directory, or a file of matrices by "
                 "head; PATH:0.5 adds half of it; may be repeated");
}

void add_dtype_option(Command& command, CommonOptions& options) {
  command.option("--dtype", &options.dtype, "run the weights as f32, bf16 or f16; by default as stored")
      .choices({"f32", "bf16", "f16"});
}

void add_json_option(Command& command, CommonOptions& options) {
  command.flag("--json", &options.json, "print the result as JSON");
}

void add_form_options(Command& command, FormOptions& options) {
  command.option("--form", &options.form, "form of attention: parallel, chunked or recurrent")
      .choices({"parallel", "chunked", "recurrent"});
  command
      .option("--chunk", &options.chunk,
              "tokens in a chunk of the chunked form; default: what suits the device")
      .range(1, int64_t{1} << 20);
}

Form parse_form(std::string_view name) {
  if (name == "parallel") return Form::parallel;
  if (name == "chunked") return Form::chunked;
  if (name == "recurrent") return Form::recurrent;
  fail(ErrorKind::invalid_argument, "--form must be parallel, chunked or recurrent, not '", name, "'");
}

Option add_horizon_option(Command& command, std::string& horizon, const std::string& otherwise) {
  const ValueCheck check = [](const std::string& text) -> std::string {
    try {
      parse_horizon(text);
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  };
  return command
      .option(
          "--horizon", &horizon,
          "tokens after which what was read has faded to 1/e: 48, 12,48 (one for each head), inf or none; " +
              otherwise)
      .check(check);
}

void add_state_dtype_option(Command& command, CommonOptions& options) {
  command
      .option(
          "--state-dtype", &options.state_dtype,
          "keep a text's state as f32 or, in half the memory and read faster, rounded to bf16; default f32")
      .choices({"f32", "bf16"});
}

SessionOptions session_options(const std::string& horizon, const CommonOptions& options) {
  return {.horizon = horizon.empty() ? std::vector<float>() : parse_horizon(horizon),
          .state_dtype = options.state_dtype == "bf16" ? DType::bf16 : DType::f32};
}

std::string past_block_warning(const Model& model, const std::vector<float>& horizon, int64_t tokens) {
  const std::optional<int64_t> block = model.block_size();
  if (!block || tokens <= *block || !horizon.empty()) return "";
  return concat("the text goes past the ", *block,
                " tokens of a block that the model was trained on, where it ",
                "loses its way without a horizon: give --horizon ", std::max<int64_t>(1, *block / 4),
                ", or find the best one with bdh horizon");
}

std::string short_name(const std::filesystem::path& path) {
  const std::filesystem::path name = std::filesystem::absolute(path).lexically_normal();
  return (name.has_filename() ? name : name.parent_path()).filename().string();
}

std::string adapter_path(const std::string& given) { return scaled_path(given).path; }

AppliedAdapter applied_adapter(const std::string& given, const Config& config) {
  const auto [path, scale] = scaled_path(given);
  return {load_adapter(path, config), scale};
}

LoadOptions load_options(const CommonOptions& options) {
  LoadOptions load;
  load.device = options.device;
  load.threads = options.threads;
  if (!options.dtype.empty()) load.dtype = dtype_from_option(options.dtype);
  return load;
}

Model load_model(const CommonOptions& options) {
  Model model = Model::from_pretrained(options.directory, load_options(options));
  for (const std::string& warning : model.warnings) warn(warning);
  stop_if_interrupted();
  if (options.adapters.empty()) return model;
  std::vector<AppliedAdapter> adapters;
  for (const std::string& given : options.adapters)
    adapters.push_back(applied_adapter(given, model.config()));
  return model.config().weight_bits == 0 ? merged(model, adapters) : adapted(model, adapters);
}

const Tokenizer& tokenizer_of(const Model& model) {
  if (!model.tokenizer)
    fail(ErrorKind::unsupported, "this model needs a tokenizer (its vocabulary has ",
         model.config().vocab_size,
         " tokens): put its tokenizer.json into the directory and use a build with BDH_TOKENIZERS, or use "
         "`bdh "
         "logits` with token numbers");
  return *model.tokenizer;
}

std::string read_input(const std::string& path, size_t max_bytes) {
  return path == "-" ? read_stdin(max_bytes) : read_text(path, max_bytes);
}

GenerationCallbacks generation_callbacks(Progress& progress, bool streams) {
  GenerationCallbacks callbacks;
  callbacks.on_prefill = [&progress](int64_t done, int64_t total) { return progress.update(done, total); };
  callbacks.on_text = [&progress, streams](size_t, std::string_view text) {
    progress.erase();
    if (streams && !text.empty()) write_out(text);
    return !interrupted();
  };
  return callbacks;
}

}  // namespace bdh::tools
