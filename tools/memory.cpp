// `bdh memory`: what a model needs in memory, by dtype and by context, from its config alone; and, when
// asked, what a run of it took.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "kernels/backends.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

struct Options {
  CommonOptions common;
  std::vector<int64_t> contexts{512, 4096, 100000};
  int64_t chunk = 256;
  int64_t sessions = 1;
  bool measure = false;
};

struct Precision {
  DType dtype;
  std::string_view name;
};

/// What the weights can run as: any float, or what they are quantized to.
std::vector<Precision> precisions(const Config& config) {
  if (config.weight_bits == 8) return {{DType::i8, "int8"}};
  if (config.weight_bits == 4) return {{DType::u8, "int4"}};
  return {{DType::f32, "F32"}, {DType::bf16, "BF16"}, {DType::f16, "F16"}};
}

struct Measured {
  std::string dtype;
  int64_t tokens;
  size_t estimate, program, peak;  // bytes; program: what was resident before the model was read
  size_t copied;                   // bytes of the weights that do not lie in the mapped file
};

struct Report {
  const Options& options;
  Config config;
  std::shared_ptr<Backend> backend;
  std::optional<DType> mapped;  // packed weights that run as this are mapped, and so shared

  MemoryNeed need(DType dtype, int64_t context) const {
    return backend->memory(config.dimensions(), dtype, std::min(context, options.chunk),
                           session().state_dtype);
  }
  SessionOptions session() const { return session_options("", options.common); }
  size_t mapped_bytes(DType dtype) const { return dtype == mapped ? need(dtype, 1).weights : 0; }
  size_t sessions_bytes() const {
    return need(DType::f32, 1).session * static_cast<size_t>(options.sessions);
  }
  size_t total(DType dtype, int64_t context) const {
    const MemoryNeed need_of = need(dtype, context);
    return need_of.weights + sessions_bytes() + need_of.working;
  }
};

/// Reads chunks in every session, as one batch would one after the other, and a token more: D tokens at
/// least, as the state takes less before.
Measured measure(const Report& report) {
  const size_t program = peak_resident_memory();
  const Model model = load_model(report.options.common);
  const std::vector<int32_t> tokens(static_cast<size_t>(report.options.chunk), 0);
  ReadOptions read;
  read.chunk = report.options.chunk;
  std::vector<Session> sessions;
  for (int64_t i = 0; i < report.options.sessions; ++i) {
    stop_if_interrupted();
    sessions.emplace_back(model.weights, report.session());
    while (sessions.back().position() < report.config.n_embd) sessions.back().read(tokens, read);
    sessions.back().read(std::span(tokens).first(1));
  }
  const DType dtype = model.weights->dtype();
  return {std::string(model.weights->dtype_name()),
          sessions.back().position() - 1,
          report.total(dtype, report.options.chunk),
          program,
          peak_resident_memory(),
          model.weights->packed().bytes};
}

Json contexts_json(const Report& report) {
  Json::Array contexts;
  for (const int64_t tokens : report.options.contexts) {
    Json context;
    context.set("tokens", tokens);
    context.set("working_bytes", uint64_t{report.need(DType::f32, tokens).working});
    Json totals;
    for (const auto& [dtype, name] : precisions(report.config))
      totals.set(std::string(name), uint64_t{report.total(dtype, tokens)});
    context.set("total_bytes", std::move(totals));
    contexts.push_back(std::move(context));
  }
  return contexts;
}

Json to_json(const Report& report, const Measured* measured) {
  Json json;
  json.set("path", report.options.common.directory);
  json.set("backend", report.backend->name());
  json.set("parameters", report.config.parameters());
  Json weights;
  for (const auto& [dtype, name] : precisions(report.config))
    weights.set(std::string(name), uint64_t{report.need(dtype, 1).weights});
  json.set("weights_bytes", std::move(weights));
  Json mapped;
  for (const auto& [dtype, name] : precisions(report.config))
    mapped.set(std::string(name), uint64_t{report.mapped_bytes(dtype)});
  if (report.mapped) json.set("mapped_bytes", std::move(mapped));
  json.set("sessions", report.options.sessions);
  json.set("state_dtype", std::string(name_of(report.session().state_dtype)));
  json.set("sessions_bytes", uint64_t{report.sessions_bytes()});
  json.set("chunk", report.options.chunk);
  json.set("contexts", contexts_json(report));
  if (!measured) return json;
  Json run;
  run.set("dtype", measured->dtype);
  run.set("tokens", measured->tokens);
  run.set("estimate_bytes", uint64_t{measured->estimate});
  run.set("program_bytes", uint64_t{measured->program});
  run.set("peak_bytes", uint64_t{measured->peak});
  run.set("copied_bytes", uint64_t{measured->copied});
  json.set("measured", std::move(run));
  return json;
}

std::string row(std::string_view label, std::string_view detail, const std::vector<std::string>& cells) {
  char cell[64];
  std::snprintf(cell, sizeof cell, "%-11.11s%14.40s", std::string(label).c_str(),
                std::string(detail).c_str());
  std::string line = cell;
  for (const std::string& text : cells) {
    std::snprintf(cell, sizeof cell, "%14.40s", text.c_str());
    line += cell;
  }
  return line + "\n";
}

/// A cell for each precision; `before` stands in front of the first one's name.
std::vector<std::string> names(const Config& config, const std::string& before = "") {
  std::vector<std::string> cells;
  for (const Precision& one : precisions(config))
    cells.push_back(concat(cells.empty() ? before : "", one.name));
  return cells;
}

template <class Bytes>
std::vector<std::string> by_dtype(const Config& config, const Bytes& bytes) {
  std::vector<std::string> cells;
  for (const Precision& one : precisions(config)) cells.push_back(format_bytes(bytes(one.dtype)));
  return cells;
}

std::string to_text(const Report& report, const Measured* measured) {
  const Options& options = report.options;
  const Config& config = report.config;
  std::string text = concat("model      ", one_line(options.common.directory), "\nparameters ",
                            config.parameters(), "\nbackend    ", report.backend->name(), "\n\n");
  text += row("", "", names(config));
  text += row("weights", "", by_dtype(config, [&](DType dtype) { return report.need(dtype, 1).weights; }));
  if (report.mapped)
    text += row("  mapped", "", by_dtype(config, [&](DType dtype) { return report.mapped_bytes(dtype); }));
  text += row(options.sessions == 1 ? "session" : concat(options.sessions, " sessions"),
              concat("S as ", name_of(report.session().state_dtype)),
              by_dtype(config, [&](DType) { return report.sessions_bytes(); }));
  text += concat("\nwith a text of so many tokens, read in chunks of ", options.chunk, "\n");
  text += row("", "activations", names(config, "in all, "));
  for (const int64_t tokens : options.contexts) {
    text += row(std::to_string(tokens), format_bytes(report.need(DType::f32, tokens).working),
                by_dtype(config, [&](DType dtype) { return report.total(dtype, tokens); }));
  }
  if (!measured) return text;
  return text + concat("\nmeasured   ", measured->dtype, ", ", measured->tokens, " tokens: estimated ",
                       format_bytes(measured->estimate), ", peak ", format_bytes(measured->peak),
                       " of which ", format_bytes(measured->program),
                       " were the program's before; weights copied ", format_bytes(measured->copied), "\n");
}

/// What packed weights run as where they lie; nothing for others.
std::optional<DType> mapped_dtype(const Options& options, const Config& config, const Backend& backend) {
  if (!config.packed || !backend.name().starts_with("cpu")) return {};
  LoadOptions load;
  load.device = "cpu";
  load.tokenizer = false;
  return Model::from_pretrained(options.common.directory, load).weights->dtype();
}

void run(const Options& options) {
  const Config config = read_config(options.common.directory);
  const auto backend = make_backend(options.common.device, options.common.threads);
  const Report report{options, config, backend, mapped_dtype(options, config, *backend)};
  Measured measured{};
  if (options.measure) measured = measure(report);
  const Measured* run_of = options.measure ? &measured : nullptr;
  write_out(options.common.json ? to_json(report, run_of).dump(2) + "\n" : to_text(report, run_of));
}

}  // namespace

void add_memory(Command& program) {
  constexpr int64_t kMost = 1'000'000'000;
  const auto options = std::make_shared<Options>();
  Command command =
      program.subcommand("memory", "Estimate the memory a model needs, by dtype and by length of the text");
  add_model_options(command, options->common);
  command.option("--context", &options->contexts, "tokens of the text; may be repeated or a,b,c")
      .delimiter(',')
      .range(1, kMost);
  command.option("--chunk", &options->chunk, "tokens read at once; default 256").range(1, int64_t{1} << 20);
  command.option("--sessions", &options->sessions, "sequences read side by side; default 1")
      .range(1, int64_t{1} << 20);
  command.flag("--measure", &options->measure,
               "also load the model, read a chunk and a token, and say what it took");
  add_dtype_option(command, options->common);
  add_state_dtype_option(command, options->common);
  add_json_option(command, options->common);
  command.footer("Example: bdh memory model --context 1000,100000 --measure");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
