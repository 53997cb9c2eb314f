// `bdh generate`: continues prompts. The text of one goes to stdout as it comes, that of several one after
// the other; rates go to stderr, or everything into one JSON object.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/horizon.h"
#include "tools/command.h"
#include "tools/sampling_options.h"
#include "tools/session_options.h"

namespace bdh::tools {
namespace {

constexpr size_t kMaxPromptBytes = 256'000'000;

struct Options {
  CommonOptions common;
  FormOptions form;
  SamplingFlags sampling;
  SessionFlags session;
  std::vector<std::string> prompts;
  std::string prompt_file;
  std::string standard_input;  // "-"
  bool echo = false;
};

std::vector<std::string> prompts_of(const Options& options) {
  const bool from_stdin = !options.standard_input.empty();
  const int ways = !options.prompts.empty() + !options.prompt_file.empty() + from_stdin;
  const bool goes_on = !options.session.load.empty();
  if (ways == 0 && goes_on) return {""};
  if (options.prompts.size() > 1 && (goes_on || !options.session.save.empty()))
    throw UsageError("--load-session and --save-session keep one session: give one prompt");
  if (ways != 1) {
    throw UsageError(
        "prompt: give exactly one of --prompt TEXT, --prompt-file FILE, or - to read standard input");
  }
  if (!options.prompts.empty()) return options.prompts;
  return {read_input(from_stdin ? "-" : options.prompt_file, kMaxPromptBytes)};
}

double rate(int64_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

/// The i-th of `count` texts for people, with a heading where there are several.
std::string shown(const Options& options, const std::vector<std::string>& prompts, size_t i, size_t count,
                  const std::string& text) {
  std::string out;
  if (count > 1) out += concat(i > 0 ? "\n" : "", "=== ", i + 1, " of ", count, " ===\n");
  if (options.echo) out += prompts[i * prompts.size() / count];
  return out + text;
}

Json text_json(const GeneratedText& text) {
  Json json;
  json.set("text", text.text);
  json.set("tokens", Json::Array(text.tokens.begin(), text.tokens.end()));
  json.set("prompt_tokens", text.prompt_tokens);
  json.set("finish", name_of(text.finish));
  return json;
}

/// Shares of neurons (n, g) and of rotation pairs that were active while decoding, one object for each layer.
Json density_json(const Config& config, const std::vector<LayerActivity>& activity) {
  Json layers(Json::Array{});
  for (const LayerActivity& layer : activity) {
    const double neurons = static_cast<double>(layer.tokens) * static_cast<double>(config.n_head) *
                           static_cast<double>(config.neurons_per_head());
    Json json;
    json.set("n", static_cast<double>(layer.n) / neurons);
    json.set("pairs", static_cast<double>(layer.pairs) / (neurons / 2));
    json.set("g", static_cast<double>(layer.g) / neurons);
    layers.push(json);
  }
  return layers;
}

/// A single text stands at the top, and all of them in `texts`.
Json result_json(const Model& model, const GenerationConfig& config, const GenerationResult& result) {
  Json json(Json::Object{});
  if (result.texts.size() == 1) json = text_json(result.texts[0]);
  Json texts(Json::Array{});
  for (const GeneratedText& text : result.texts) texts.push(text_json(text));
  json.set("texts", texts);
  json.set("prefill_tokens", result.prefill_tokens);
  json.set("prefill_seconds", result.prefill_seconds);
  json.set("prefill_tokens_per_second", rate(result.prefill_tokens, result.prefill_seconds));
  json.set("decode_tokens", result.decode_tokens);
  json.set("draft_tokens", result.draft_tokens);
  json.set("decode_seconds", result.decode_seconds);
  json.set("decode_tokens_per_second", rate(result.decode_tokens, result.decode_seconds));
  json.set("seed", config.sampling.seed);
  json.set("horizon", horizon_to_json(config.horizon));
  json.set("device", model.weights->backend().name());
  json.set("dtype", model.weights->dtype_name());
  json.set("density", density_json(model.config(), result.activity));
  return json;
}

void print_rates(const Model& model, const GenerationConfig& config, const GenerationResult& result) {
  const std::string choice =
      config.sampling.greedy() ? "greedy" : "seed " + std::to_string(config.sampling.seed);
  std::fprintf(
      stderr, "bdh: prefill %lld tokens, %.1f tokens/s; decode %lld tokens, %.1f tokens/s; %s; %s, %s\n",
      static_cast<long long>(result.prefill_tokens), rate(result.prefill_tokens, result.prefill_seconds),
      static_cast<long long>(result.decode_tokens), rate(result.decode_tokens, result.decode_seconds),
      choice.c_str(), model.weights->backend().name().c_str(),
      std::string(model.weights->dtype_name()).c_str());
}

/// Ends the line that `text` began on a terminal. Elsewhere stdout holds the text and nothing else.
void end_line(const std::string& text) {
  const bool begun = !text.empty() && !text.ends_with('\n');
  if (begun && isatty(STDOUT_FILENO) == 1) write_out("\n");
}

/// Says before it comes that a text will go past the model's block.
void warn_past_block(const Model& model, const GenerationConfig& config,
                     const std::vector<std::string>& prompts) {
  int64_t longest = 0;
  for (const std::string& prompt : prompts)
    longest = std::max(longest, static_cast<int64_t>(tokenizer_of(model).encode(prompt).size()));
  const int64_t most = std::numeric_limits<int64_t>::max() - longest;
  const std::string warning =
      past_block_warning(model, config.horizon, longest + std::min(config.room_after(longest), most));
  if (!warning.empty()) warn(warning);
}

size_t texts_of(const std::vector<std::string>& prompts, const GenerationConfig& config) {
  return prompts.size() * static_cast<size_t>(config.num_return_sequences);
}

GenerationResult continue_prompts(const Model& model, const Options& options, const GenerationConfig& config,
                                  const std::vector<std::string>& prompts, std::vector<Session>& sessions,
                                  const Continuation& before) {
  std::vector<Session*> pointers;
  for (Session& session : sessions) pointers.push_back(&session);

  const bool streams = texts_of(prompts, config) == 1 && !options.common.json;
  Progress progress("reading", "tokens");
  ReadOptions read;
  if (!options.form.form.empty()) read.form = parse_form(options.form.form);
  read.chunk = options.form.chunk;
  std::optional<PromptCache> cache = prompt_cache(options.session);
  const std::vector<Continuation> continued(options.session.load.empty() ? 0 : 1, before);
  return generate(pointers, tokenizer_of(model), prompts, config, generation_callbacks(progress, streams),
                  read, {continued, cache ? &*cache : nullptr, options.session.drafts});
}

/// Not where the prompt was not read to its end: the rest of it would be missing.
void keep(const Options& options, const Session& session, const GeneratedText& text) {
  if (text.finish != FinishReason::cancelled || !text.tokens.empty())
    return keep_session(session, text.next, options.session);
  if (!options.session.save.empty()) warn("the prompt was not read to its end: the session was not saved");
}

void run(const Options& options) {
  const std::vector<std::string> prompts = prompts_of(options);
  const Model model = load_model(options.common);
  GenerationConfig config = with_flags(model.generation, options.sampling);
  config.require_possible(model.config().vocab_size);
  const size_t count = texts_of(prompts, config);
  if (count > 1 && !options.session.save.empty())
    throw UsageError("--save-session keeps one text: ask for one (--num-return-sequences 1)");
  Continuation before;
  std::vector<Session> sessions;
  for (size_t i = 0; i < prompts.size(); ++i) {
    sessions.push_back(begin_session(model, options.common, options.session, config,
                                     !options.sampling.horizon.empty(), options.sampling.seed.has_value(),
                                     before));
  }
  warn_past_block(model, config, prompts);
  if (!options.common.json && count == 1) write_out(shown(options, prompts, 0, 1, ""));
  const GenerationResult result = continue_prompts(model, options, config, prompts, sessions, before);
  if (result.exhausted) warn("every token was banned or suppressed at some point: token 0 was taken there");
  keep(options, sessions[0], result.texts[0]);
  if (options.common.json) {
    write_out(result_json(model, config, result).dump() + "\n");
  } else {
    for (size_t i = 0; count > 1 && i < count; ++i)
      write_out(shown(options, prompts, i, count, result.texts[i].text) + "\n");
    if (count == 1) end_line(shown(options, prompts, 0, 1, result.texts[0].text));
    print_rates(model, config, result);
  }
  stop_if_interrupted();
}

}  // namespace

void add_generate(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("generate", "Continue a prompt");
  add_model_options(command, options->common);
  add_adapter_option(command, options->common);
  command.option("INPUT", &options->standard_input, "- reads the prompt from standard input").choices({"-"});
  command.option("--prompt", &options->prompts, "the text to continue; given more than once: one batch");
  command.option("--prompt-file", &options->prompt_file,
                 "a file to continue, byte for byte; - is standard input");
  command.flag("--echo", &options->echo, "print the prompt before the text");
  add_sampling_options(command, options->sampling);
  add_session_options(command, options->session);
  add_form_options(command, options->form);
  add_dtype_option(command, options->common);
  add_state_dtype_option(command, options->common);
  add_json_option(command, options->common);
  command.footer(
      "Example: bdh generate model --prompt \"ROMEO:\" --max-new-tokens 300 --seed 7\n"
      "The text goes to standard output, rates to standard error. With --json everything is one object: a "
      "single\n"
      "text's result at its top, those of all in `texts`, density of active neurons by layer while "
      "decoding.");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
