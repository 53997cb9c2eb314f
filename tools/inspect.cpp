// `bdh inspect`: what a model directory or a weights file holds, from its headers alone; and, when asked, how
// sparse the model is on a text.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/memory.h"
#include "bdh/model/horizon.h"
#include "bdh/pretrained/remarks.h"
#include "kernels/backends.h"
#include "tools/command.h"
#include "tools/sparsity.h"
#include "tools/text_source.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  bool sparsity = false;
  std::string text, picture;
  TextRange range{0, 16384};
};

struct TensorRow {
  std::string name;
  std::string dtype;
  Shape shape;
  uint64_t bytes = 0;
  std::string file;
  std::optional<uint64_t> offset;  // from the file's start; none inside a PyTorch file's archive
};

struct Report {
  std::string path;
  std::optional<Config> config;  // none for a single file, and for another function's model
  std::string dialect, origin;   // who saves tensors in this way; empty: not known
  std::optional<int64_t> block;  // tokens of a training example
  std::vector<float> horizon;
  std::vector<TensorRow> tensors;
  Metadata metadata;
  std::vector<std::string> warnings;
  std::optional<Sparsity> sparsity;

  uint64_t weight_bytes() const {
    uint64_t bytes = 0;
    for (const TensorRow& row : tensors) bytes += row.bytes;
    return bytes;
  }
};

void add_safetensors(Report& report, const SafetensorsFile& file) {
  const std::string name = file.path().filename().string();
  for (const TensorInfo& info : file.tensors()) {
    report.tensors.push_back(
        {info.name, info.type, info.shape, info.end - info.begin, name, file.data_offset() + info.begin});
  }
}

void add_weights(Report& report, const WeightFiles& weights) {
  for (const SafetensorsFile& file : weights.files) add_safetensors(report, file);
  for (size_t i = 0; i < weights.torch_files.size(); ++i) {
    const std::string name = weights.paths[i].filename().string();
    for (const auto& [tensor, view] : weights.torch_files[i].tensors)
      report.tensors.push_back(
          {tensor, std::string(name_of(view.dtype)), view.shape, view.bytes(), name, {}});
  }
  report.metadata = weights.metadata();
}

constexpr size_t kMostProblems = 24;

/// Compares the tensors' names and shapes with what the config asks for.
void check_parameters(Report& report, const TensorMap& tensors) {
  size_t problems = 0;
  const auto tell = [&](const std::string& problem) {
    if (++problems <= kMostProblems) report.warnings.push_back(problem);
  };
  for (const auto& [name, shape] : parameter_shapes(*report.config)) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      if (name != "attn.freqs") tell(concat("tensor '", name, "' is missing"));
    } else if (found->second.shape != shape) {
      tell(concat("tensor '", name, "' has the shape ", to_string(found->second.shape),
                  ", but config.json asks for ", to_string(shape)));
    }
  }
  if (problems > kMostProblems)
    report.warnings.push_back(
        concat(problems - kMostProblems, " more tensors are missing or have another shape"));
}

void name_dialect(Report& report, const ImportedTensors& weights) {
  report.dialect = weights.dialect;
  report.origin = weights.origin;
}

/// What another function's model is, is worth telling; any other error ends the inspection.
template <class Look>
void look_inside(Report& report, const Look& look) {
  try {
    look();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    report.warnings.emplace_back(error.what());
  }
}

Report inspect_directory(const fs::path& path) {
  Report report;
  report.path = path.string();
  look_inside(report, [&] {
    const ModelFiles opened = open_model(path, &report.warnings);
    report.config = opened.model.config;
    name_dialect(report, opened.model.weights);
    add_weights(report, opened.files);
    check_parameters(report, opened.model.weights.tensors);
  });
  if (!report.config) {
    add_weights(report, find_weights(path));
    return report;
  }
  report.block = read_remarks(path, &report.warnings).block_size(*report.config);
  report.horizon = read_generation_config(*report.config, path).horizon;
  return report;
}

Report inspect_file(const fs::path& path) {
  Report report;
  report.path = path.string();
  const WeightFiles files = open_weights_file(path);
  add_weights(report, files);
  look_inside(report, [&] {
    const ConfigSource own = own_config(files.values(), path.string());
    refuse_other_functions(own);
    name_dialect(report, import_tensors(files, with_reference_keys(own.values)));
  });
  return report;
}

size_t session_bytes(const Config& config) {
  return make_backend("auto", 1)->memory(config.dimensions(), DType::f32, 1).session;
}

Json tensors_json(const Report& report) {
  Json::Array tensors;
  for (const TensorRow& row : report.tensors) {
    Json::Array shape(row.shape.begin(), row.shape.end());
    Json tensor;
    tensor.set("name", row.name);
    tensor.set("dtype", row.dtype);
    tensor.set("shape", std::move(shape));
    tensor.set("file", row.file);
    tensor.set("offset", row.offset ? Json(*row.offset) : Json());
    tensor.set("bytes", row.bytes);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

Json strings_json(const std::vector<std::string>& strings) {
  return Json::Array(strings.begin(), strings.end());
}

Json to_json(const Report& report) {
  Json json;
  json.set("path", report.path);
  if (report.config) {
    json.set("config", report.config->to_json());
    json.set("neurons_per_head", report.config->neurons_per_head());
    json.set("parameters", report.config->parameters());
    json.set("state_bytes", report.config->state_bytes());
    json.set("session_bytes", uint64_t{session_bytes(*report.config)});
  }
  if (!report.dialect.empty()) json.set("dialect", report.dialect);
  if (!report.origin.empty()) json.set("dialect_origin", report.origin);
  if (report.block) json.set("block_size", *report.block);
  if (!report.horizon.empty()) json.set("horizon", horizon_to_json(report.horizon));
  json.set("weight_bytes", report.weight_bytes());
  json.set("tensors", tensors_json(report));
  Json::Object metadata;
  for (const auto& [key, value] : report.metadata) metadata.emplace_back(key, value);
  json.set("metadata", std::move(metadata));
  json.set("warnings", strings_json(report.warnings));
  if (report.sparsity) json.set("sparsity", sparsity_json(*report.sparsity));
  return json;
}

std::string line(const char* label, const std::string& value) {
  char start[32];
  std::snprintf(start, sizeof start, "%-12s", label);
  return start + one_line(value) + "\n";
}

std::string config_lines(const Config& c) {
  const int64_t neurons = c.neurons_per_head();
  return line("config",
              concat("n_layer ", c.n_layer, ", n_embd ", c.n_embd, ", n_head ", c.n_head,
                     ", mlp_internal_dim_multiplier ", c.mlp_internal_dim_multiplier, ", vocab_size ",
                     c.vocab_size, ", dropout ", c.dropout, c.tie_layers ? "" : ", tie_layers false")) +
         line("neurons", concat(neurons, " per head, ", c.n_head * neurons, " in all")) +
         line("parameters", std::to_string(c.parameters())) +
         line("session", concat(format_bytes(session_bytes(c)), ", of which ",
                                format_bytes(static_cast<size_t>(c.state_bytes())), " float32 state"));
}

std::string tensor_lines(const Report& report) {
  size_t width = 6;
  for (const TensorRow& row : report.tensors) width = std::max(width, one_line(row.name).size());
  width = std::min<size_t>(width, 60);
  const auto cells = [&](const std::string& name, std::string_view dtype, const std::string& shape,
                         const std::string& offset, const std::string& bytes, const std::string& file) {
    char rest[256];
    std::snprintf(rest, sizeof rest, "  %-8s  %-20s  %14s  %14s  ", std::string(dtype).c_str(), shape.c_str(),
                  offset.c_str(), bytes.c_str());
    return name + std::string(width - std::min(width, name.size()), ' ') + rest + file + "\n";
  };
  std::string lines = cells("tensor", "dtype", "shape", "offset", "bytes", "file");
  for (const TensorRow& row : report.tensors)
    lines +=
        cells(one_line(row.name), one_line(row.dtype), to_string(row.shape),
              row.offset ? std::to_string(*row.offset) : "-", std::to_string(row.bytes), one_line(row.file));
  return lines;
}

std::string to_text(const Report& report) {
  std::string text = line(report.config ? "model" : "file", report.path);
  if (report.config) text += config_lines(*report.config);
  if (report.block) text += line("block", concat(*report.block, " tokens of a training example"));
  if (!report.horizon.empty()) text += line("horizon", horizon_text(report.horizon) + " tokens");
  if (!report.dialect.empty())
    text +=
        line("dialect", report.dialect + (report.origin.empty() ? "" : ", as " + report.origin + " saves"));
  text +=
      line("weights", concat(format_bytes(report.weight_bytes()), " in ", report.tensors.size(), " tensors"));
  text += concat("\n", tensor_lines(report));
  if (!report.metadata.empty()) text += "\nmetadata\n";
  for (const auto& [key, value] : report.metadata)
    text += concat("  ", one_line(key), ": ", one_line(value), "\n");
  if (report.sparsity) text += concat("\n", sparsity_table(*report.sparsity));
  return text;
}

/// The path's last part, "." and a closing slash resolved.
void add_sparsity(Report& report, const Options& options) {
  if (!report.config)
    fail(ErrorKind::invalid_argument, "--sparsity needs a model directory, not a single file");
  TextSource text(options.text, options.range);
  report.sparsity = measure_sparsity(load_model(options.common), text);
  if (options.picture.empty()) return;
  AtomicFile picture(options.picture);
  picture.write(sparsity_picture(*report.sparsity, short_name(report.path),
                                 options.text == "-" ? "standard input" : short_name(options.text)));
  picture.commit();
}

void run(const Options& options) {
  const fs::path path = options.common.directory;
  std::error_code ignored;
  Report report = fs::is_regular_file(path, ignored) ? inspect_file(path) : inspect_directory(path);
  if (options.sparsity) {
    add_sparsity(report, options);  // loading warns
  } else if (!options.common.json) {
    for (const std::string& warning : report.warnings) warn(warning);
  }
  write_out(options.common.json ? to_json(report).dump(2) + "\n" : to_text(report));
}

}  // namespace

void add_inspect(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("inspect", "Show what a model directory or a weights file holds");
  command
      .option("PATH", &options->common.directory,
              "model directory, or a weights file: safetensors, PyTorch's (.pt, .bin, .ckpt, ...) or .npz")
      .required();
  add_backend_options(command, options->common);
  Option sparsity =
      command.flag("--sparsity", &options->sparsity, "measure how active the neurons are on a text");
  Option text = command.option("--text", &options->text, "the text for --sparsity; - is standard input");
  sparsity.needs(text);
  text.needs(sparsity);
  command.option("--limit", &options->range.limit, "bytes of the text to read; default 16384")
      .needs(sparsity)
      .range(1, std::numeric_limits<int64_t>::max());
  command.option("--picture", &options->picture, "also draw the densities into this SVG file")
      .needs(sparsity);
  add_json_option(command, options->common);
  command.footer("Example: bdh inspect model --sparsity --text shakespeare.txt --picture sparsity.svg");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
