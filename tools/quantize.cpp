// `bdh quantize`: a model with weights of 8 or 4 bits, and what that costs on a text.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <numbers>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/quantize.h"
#include "tools/command.h"
#include "tools/loss.h"
#include "tools/text_blocks.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  TextRange range;
  std::string target, text;
  int64_t bits = 8, block = 256;
  bool overwrite = false, no_card = false;
};

struct Sizes {
  uint64_t source = 0, float32 = 0, target = 0;  // bytes; of the source's tensors, and of OUT's files

  double times_smaller() const { return static_cast<double>(float32) / static_cast<double>(target); }
};

/// Sums over the tokens of a text, in nats.
struct Cost {
  double before = 0, after = 0, divergence = 0;
  int64_t tokens = 0;
  double bytes_per_token = 1;

  double per_token(double sum) const { return sum / static_cast<double>(tokens); }
  double bits_per_byte(double sum) const { return per_token(sum) / std::numbers::ln2 / bytes_per_token; }
};

uint64_t file_bytes(const fs::path& directory) {
  uint64_t bytes = 0;
  for (const fs::path& path : find_weights(directory).paths) bytes += fs::file_size(path);
  return bytes;
}

Sizes sizes_of(const Model& model, const Options& options) {
  Sizes sizes;
  for (const auto& [name, tensor] : model.weights->state_dict()) {
    sizes.source += tensor.bytes();
    sizes.float32 += static_cast<uint64_t>(tensor.numel()) * sizeof(float);
  }
  sizes.target = file_bytes(options.target);
  return sizes;
}

/// OUT as it will be read.
Model save(const Model& model, const Options& options) {
  SaveOptions save;
  save.overwrite = options.overwrite;
  save.create_model_card = !options.no_card;
  save.huggingface = !keys_of_transformers(model.config()).empty();  // whose refusal names the method
  if (options.overwrite) complete_interrupted_update(options.target);
  for (const std::string& warning : quantized(model, options.bits).save_pretrained(options.target, save))
    warn(warning);
  LoadOptions load;
  load.device = "cpu";
  load.threads = options.common.threads;
  return Model::from_pretrained(options.target, load);
}

/// KL(softmax(before) || softmax(after)), in nats.
double divergence(std::span<const float> before, std::span<const float> after) {
  const double log_before = loss_of(before, 0) + before[0], log_after = loss_of(after, 0) + after[0];
  double sum = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double p = before[i] - log_before, q = after[i] - log_after;
    sum += std::exp(p) * (p - q);
  }
  return sum;
}

void add(Cost& cost, const Model& before, const Model& after, const std::vector<Tokens>& blocks) {
  std::vector<std::span<const int32_t>> inputs;
  for (const Tokens& block : blocks) inputs.push_back(std::span(block).first(block.size() - 1));
  const std::vector<float> exact = forward(*before.weights, inputs),
                           rounded = forward(*after.weights, inputs);
  const auto vocabulary = static_cast<size_t>(before.config().vocab_size);
  size_t at = 0;
  for (const Tokens& block : blocks) {
    for (size_t i = 1; i < block.size(); ++i, at += vocabulary) {
      const auto p = std::span(exact).subspan(at, vocabulary), q = std::span(rounded).subspan(at, vocabulary);
      cost.before += loss_of(p, block[i]);
      cost.after += loss_of(q, block[i]);
      cost.divergence += divergence(p, q);
      ++cost.tokens;
    }
  }
}

Cost cost_on(const Model& before, const Model& after, const Options& options) {
  TextSource bytes(options.text, options.range);
  TokenSource text(bytes, tokenizer_of(before));
  TextBlocks blocks(text, options.block);
  const size_t together = blocks_together(options.block, before.config().vocab_size);
  Progress progress("reading", "tokens");
  Cost cost;
  for (auto some = blocks.next(together); !some.empty(); some = blocks.next(together)) {
    add(cost, before, after, some);
    progress.update(cost.tokens, blocks.total());
    stop_if_interrupted();
  }
  if (cost.tokens == 0)
    fail(ErrorKind::invalid_argument, "the text is too short for --block ", options.block,
         ": it needs at least ", options.block + 2, " tokens");
  cost.bytes_per_token = text.bytes_per_token();
  return cost;
}

Json loss_json(const Cost& cost, double sum) {
  Json json;
  json.set("nats_per_token", cost.per_token(sum));
  json.set("bits_per_byte", cost.bits_per_byte(sum));
  return json;
}

void print_json(const Options& options, const Sizes& sizes, const std::optional<Cost>& cost) {
  Json json;
  json.set("path", options.target);
  json.set("bits", options.bits);
  json.set("source_bytes", sizes.source);
  json.set("float32_bytes", sizes.float32);
  json.set("bytes", sizes.target);
  json.set("times_smaller_than_float32", sizes.times_smaller());
  if (cost) {
    json.set("tokens", cost->tokens);
    json.set("block", options.block);
    json.set("before", loss_json(*cost, cost->before));
    json.set("after", loss_json(*cost, cost->after));
    json.set("kl_divergence", cost->per_token(cost->divergence));
  }
  write_out(json.dump(2) + "\n");
}

void print_text(const Options& options, const Sizes& sizes, const std::optional<Cost>& cost) {
  char line[160];
  std::snprintf(line, sizeof line, "weights            %s in %lld bits, %.2f times smaller than in float32\n",
                format_bytes(sizes.target).c_str(), static_cast<long long>(options.bits),
                sizes.times_smaller());
  std::string text = line;
  if (cost) {
    const double before = cost->bits_per_byte(cost->before), after = cost->bits_per_byte(cost->after);
    std::snprintf(line, sizeof line, "bits per byte      %.6f before, %.6f after: %+.3f %%\n", before, after,
                  100 * (after / before - 1));
    text += line;
    std::snprintf(line, sizeof line, "KL divergence      %.3e nats per token, over %lld tokens\n",
                  cost->per_token(cost->divergence), static_cast<long long>(cost->tokens));
    text += line;
  }
  write_out(text);
}

void run(const Options& options) {
  const Model model = load_model(options.common);
  if (!options.text.empty()) tokenizer_of(model);
  const Model after = save(model, options);
  const Sizes sizes = sizes_of(model, options);
  std::optional<Cost> cost;
  if (!options.text.empty()) cost = cost_on(model, after, options);
  if (options.common.json) return print_json(options, sizes, cost);
  print_text(options, sizes, cost);
}

}  // namespace

void add_quantize(Command& program) {
  const auto options = std::make_shared<Options>();
  options->common.device = "cpu";
  Command command = program.subcommand("quantize", "Save a model with weights of 8 or 4 bits");
  command.option("DIR", &options->common.directory, "model directory, or a weights file").required();
  command.option("OUT", &options->target, "the directory to write").required();
  command.option("--bits", &options->bits, "8: a scale for each neuron (the default); 4: one for 32 numbers")
      .range(4, 8);
  command.option(
      "--text", &options->text,
      "measure bits per byte before and after, and KL divergence, on this text; - is standard input");
  command.option("--block", &options->block, "tokens in an independent block of the text; default 256")
      .range(1, kMaxBlock);
  command.option("--limit", &options->range.limit, "read at most so many bytes of the text")
      .range(0, std::numeric_limits<int64_t>::max());
  command.option("--offset", &options->range.offset,
                 "skip so many bytes of the text; negative: counted from its end");
  command.option("--threads", &options->common.threads, "CPU threads; 0 (the default): the cores")
      .range(0, 4096);
  command.flag("--no-card", &options->no_card, "write no README.md");
  command.flag("--overwrite", &options->overwrite, "replace the model that stands there");
  add_json_option(command, options->common);
  command.footer("Example: bdh quantize model small --bits 4 --text held_out.txt");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
