// `bdh logits`: the logits after each of the given tokens, as a safetensors file.
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/horizon.h"
#include "tools/command.h"
#include "tools/token_numbers.h"

namespace bdh::tools {
namespace {

constexpr size_t kMaxTokensBytes = 256'000'000;

struct Options {
  CommonOptions common;
  FormOptions form;
  std::string tokens, tokens_file, out, horizon;
  int64_t start = 0;
};

std::vector<float> compute(const Model& model, const std::vector<int32_t>& tokens, const Options& options) {
  const std::span<const int32_t> sequence(tokens);
  ReadOptions read;
  read.form = parse_form(options.form.form);
  read.chunk = options.form.chunk;
  Progress progress("reading", "tokens");
  if (read.form == Form::parallel) progress.show(concat("reading ", tokens.size(), " tokens at once"));
  if (read.form == Form::parallel && options.start == 0 && options.horizon.empty())
    return forward(*model.weights, {&sequence, 1});
  if (read.form != Form::parallel)
    read.progress = [&](int64_t done, int64_t total) { return progress.update(done, total); };
  Session session(model.weights, session_options(options.horizon, options.common));
  session.start_at(options.start);
  return session.read_all(tokens, read);
}

void save(const std::string& path, std::vector<float> values, int64_t vocabulary) {
  const auto logits = std::make_shared<const std::vector<float>>(std::move(values));
  const Shape shape{static_cast<int64_t>(logits->size()) / vocabulary, vocabulary};
  const auto* data = reinterpret_cast<const std::byte*>(logits->data());
  write_safetensors(path,
                    {{"logits", Tensor{DType::f32, shape, contiguous_strides(shape), {}, data, logits}}}, {});
}

void run(const Options& options) {
  const auto tokens = parse_tokens(
      options.tokens_file.empty() ? options.tokens : read_input(options.tokens_file, kMaxTokensBytes));
  const auto start = std::chrono::steady_clock::now();
  const Model model = load_model(options.common);
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const int64_t vocabulary = model.config().vocab_size;
  require_in_vocabulary(tokens, vocabulary);
  std::vector<float> logits = compute(model, tokens, options);
  stop_if_interrupted();
  save(options.out, std::move(logits), vocabulary);
  if (!options.common.json) return;
  Json summary;
  summary.set("out", options.out);
  summary.set("tokens", static_cast<int64_t>(tokens.size()));
  summary.set("vocab_size", vocabulary);
  summary.set("start", options.start);
  summary.set("form", options.form.form);
  summary.set("horizon", horizon_to_json(session_options(options.horizon, options.common).horizon));
  summary.set("dtype", model.weights->dtype_name());
  summary.set("backend", model.weights->backend().name());
  summary.set("load_seconds", load_seconds);
  write_out(summary.dump(2) + "\n");
}

}  // namespace

void add_logits(Command& program) {
  const auto options = std::make_shared<Options>();
  options->form.form = "parallel";
  Command command = program.subcommand("logits", "Write the logits after each of the given tokens");
  add_model_options(command, options->common);
  add_adapter_option(command, options->common);
  Command given = command.exactly_one("tokens", "what to read");
  given.option("--tokens", &options->tokens, "token numbers, as 84,111,32");
  given.option("--tokens-file", &options->tokens_file, "a file of token numbers; - is standard input");
  command.option("--out", &options->out, "file to write: tensor `logits` (T, V), float32").required();
  add_form_options(command, options->form);
  add_horizon_option(command, options->horizon, "default: none");
  command.option("--start", &options->start, "the position of the first token; default 0")
      .range(0, kMaxPosition);
  add_dtype_option(command, options->common);
  add_state_dtype_option(command, options->common);
  add_json_option(command, options->common);
  command.footer(
      "Example: bdh logits model --tokens 84,111,32 --out logits.safetensors --form chunked --chunk 64");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
