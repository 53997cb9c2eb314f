// `bdh adapter`: what a LoRA adapter changes in a model, the model with it merged in, and one that makes a
// model of another.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "bdh/base/error.h"
#include "bdh/pretrained/adapters/extract.h"
#include "bdh/pretrained/adapters/load_adapter.h"
#include "bdh/pretrained/adapters/peft.h"
#include "bdh/pretrained/directory_update.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

struct Options {
  CommonOptions common;
  std::string adapter, target;
  std::string tuned;
  double scale = 1;
  int64_t rank = 8;
  bool overwrite = false, no_card = false;
};

// ---- inspect ----

int64_t numbers_of(const LoraAdapter& adapter) {
  int64_t numbers = 0;
  for (const LowRankUpdate& update : adapter.updates) numbers += update.numbers();
  return numbers;
}

int64_t numbers_of(const Model& model) {
  int64_t numbers = 0;
  for (const auto& [name, tensor] : model.weights->state_dict()) numbers += tensor.numel();
  return numbers;
}

void inspect(const Options& options) {
  const Model model = load_model(options.common);
  const LoraAdapter adapter = load_adapter(options.adapter, model.config());
  const int64_t own = numbers_of(adapter), all = numbers_of(model);
  if (options.common.json) {
    Json::Array updates;
    for (const LowRankUpdate& update : adapter.updates)
      updates.push_back(Json::Object{{"parameter", update.parameter},
                                     {"rank", update.rank},
                                     {"scale", update.scale},
                                     {"numbers", update.numbers()}});
    const Json json = Json::Object{
        {"path", options.adapter}, {"updates", std::move(updates)}, {"numbers", own}, {"model_numbers", all}};
    return write_out(json.dump(2) + "\n");
  }
  std::string text;
  char line[160];
  for (const LowRankUpdate& update : adapter.updates) {
    std::snprintf(line, sizeof line, "%-14s rank %-5lld scale %-9.6g %lld numbers\n",
                  update.parameter.c_str(), static_cast<long long>(update.rank), update.scale,
                  static_cast<long long>(update.numbers()));
    text += line;
  }
  std::snprintf(line, sizeof line, "together       %lld numbers, %.2f %% of the model's %lld\n",
                static_cast<long long>(own), 100 * static_cast<double>(own) / static_cast<double>(all),
                static_cast<long long>(all));
  write_out(text + line);
}

// ---- merge ----

void merge(const Options& options) {
  if (options.overwrite) complete_interrupted_update(options.target);
  const Model model = load_model(options.common);
  const AppliedAdapter adapter{load_adapter(options.adapter, model.config()), options.scale};
  SaveOptions save;
  save.overwrite = options.overwrite;
  save.create_model_card = !options.no_card;
  save.packed = model.packed;
  save.huggingface = !keys_of_transformers(model.config()).empty();
  for (const std::string& warning : merged(model, {&adapter, 1}).save_pretrained(options.target, save))
    warn(warning);
}

// ---- extract ----

std::string held_text(const ExtractedAdapter& extracted) {
  std::string text;
  char line[160];
  for (const HeldDifference& part : extracted.held) {
    std::snprintf(line, sizeof line, "%-14s differs by %-10.4g the adapter holds %.2f %%\n",
                  part.parameter.c_str(), part.norm, 100 * part.held);
    text += line;
  }
  return text;
}

Json held_json(const ExtractedAdapter& extracted) {
  Json::Array parts;
  for (const HeldDifference& part : extracted.held)
    parts.push_back(Json::Object{{"parameter", part.parameter}, {"norm", part.norm}, {"held", part.held}});
  return parts;
}

void extract(const Options& options) {
  const std::filesystem::path target = options.target;
  if (std::error_code none; std::filesystem::exists(target, none) && !options.overwrite)
    fail(ErrorKind::invalid_argument, options.target,
         ": is there already; replace it with --overwrite, or choose another name");
  CommonOptions second = options.common;
  second.directory = options.tuned;
  const Model base = load_model(options.common), tuned = load_model(second);
  const ExtractedAdapter extracted = extracted_adapter(base, tuned, options.rank);
  const std::string base_path =
      std::filesystem::absolute(options.common.directory).lexically_normal().string();
  save_peft_adapter(target, extracted.adapter, base.config(),
                    {base_path, options.rank, static_cast<double>(options.rank), false});
  write_out(options.common.json ? held_json(extracted).dump(2) + "\n" : held_text(extracted));
}

}  // namespace

void add_adapter(Command& program) {
  const auto options = std::make_shared<Options>();
  options->common.device = "cpu";
  Command adapter = program.subcommand(
      "adapter", "Show a LoRA adapter, merge it into its model, or make one of two models");
  adapter.subcommand_required();
  adapter.footer("Example: bdh adapter merge model model-lora merged");

  const auto add = [&](const char* name, const char* description, void (*run)(const Options&)) {
    Command action = adapter.subcommand(name, description);
    action.option("DIR", &options->common.directory, "directory of the model that the adapter was made for")
        .required();
    action
        .option("ADAPTER", &options->adapter, "the adapter: PEFT's directory, or a file of matrices by head")
        .required();
    action.run([options, run] { run(*options); });
    return action;
  };
  Command inspected = add("inspect", "Show which parameters an adapter changes", inspect);
  add_json_option(inspected, options->common);
  inspected.footer("Example: bdh adapter inspect model model-lora");

  Command merged = add("merge", "Save the model with the adapter added to its weights", merge);
  merged.option("OUT", &options->target, "the directory to write; the model itself stays as it is")
      .required();
  merged.option("--scale", &options->scale, "how much of the adapter; 1 is all").placeholder("X");
  merged.flag("--no-card", &options->no_card, "write no README.md");
  merged.flag("--overwrite", &options->overwrite, "replace the model that stands there");
  merged.footer("Example: bdh adapter merge model model-lora merged --scale 0.5");

  Command extracted = adapter.subcommand("extract", "Make an adapter of what two models differ by");
  extracted.option("BASE", &options->common.directory, "directory of the model that the adapter is for")
      .required();
  extracted.option("TUNED", &options->tuned, "the model that it is to make of that").required();
  extracted.option("OUT", &options->target, "the directory to write, as PEFT has it").required();
  extracted
      .option("--rank", &options->rank,
              "rank of the adapter: the higher, the nearer and the larger; default 8")
      .placeholder("R");
  extracted.flag("--overwrite", &options->overwrite, "replace what stands there");
  add_json_option(extracted, options->common);
  extracted.run([options] { extract(*options); });
  extracted.footer("Example: bdh adapter extract model model-tuned model-lora --rank 16");
}

}  // namespace bdh::tools
