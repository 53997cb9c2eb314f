// `bdh horizon`: which horizon lets a trained model read on past the block it was trained on.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/model/horizon.h"
#include "bdh/pretrained/model_files.h"
#include "bdh/pretrained/remarks.h"
#include "tools/command.h"
#include "tools/horizon_search.h"
#include "tools/token_source.h"

namespace bdh::tools {
namespace {

constexpr int64_t kBlocks = 32;  // read, unless --limit says otherwise
constexpr int64_t kMaxBlock = int64_t{1} << 20;

struct Options {
  CommonOptions common;
  TextRange range;
  std::string text, picture;
  std::optional<int64_t> limit;  // bytes
  std::optional<int64_t> block;
  bool by_head = false, write = false;
};

int64_t block_of(const Model& model, const Options& options) {
  const std::optional<int64_t> block = options.block ? options.block : model.block_size();
  if (!block) {
    fail(ErrorKind::invalid_argument, options.common.directory,
         ": no file there says on which block the model was trained; give its tokens as --block N");
  }
  return *block;
}

std::vector<int32_t> tokens_of(const Model& model, const Options& options, int64_t block) {
  TextRange range = options.range;
  if (options.limit) range.limit = *options.limit;
  TextSource bytes(options.text, range);
  TokenSource text(bytes, tokenizer_of(model));
  const auto most = options.limit ? range.limit : kBlocks * block + 1;  // a token is a byte at least
  return text.read(static_cast<size_t>(most));
}

// A good first guess, where nothing is measured.
std::vector<float> quarter_of(int64_t block) { return {static_cast<float>(std::max<int64_t>(1, block / 4))}; }

HorizonTable measure(const Model& model, const Options& options, int64_t block) {
  const std::vector<int32_t> tokens = tokens_of(model, options, block);
  Progress progress("reading", "tokens");
  return measure_horizons(model, tokens, block, options.by_head, [&](int64_t done, int64_t total) {
    progress.update(done, total);
    stop_if_interrupted();
  });
}

void write_picture(const HorizonTable& table, const Options& options) {
  AtomicFile picture(options.picture);
  picture.write(horizon_picture(table, short_name(options.common.directory)));
  picture.commit();
}

void tell(const std::vector<float>& horizon, const std::optional<HorizonTable>& table, const Options& options,
          int64_t block) {
  if (options.common.json) {
    Json json = table ? horizon_json(*table) : Json();
    if (!table) {
      json.set("block", block);
      json.set("best", horizon_to_json(horizon));
    }
    json.set("written", options.write);
    return write_out(json.dump(2) + "\n");
  }
  std::string text = table ? horizon_table(*table) + "\n" : "";
  text +=
      concat("horizon ", horizon_text(horizon), table ? "" : concat(": a quarter of the block of ", block));
  text += options.write
              ? concat(", written to ",
                       (model_folder(options.common.directory) / "generation_config.json").string(), "\n")
              : "; --write puts it into generation_config.json\n";
  write_out(text);
}

void run(const Options& options) {
  const Model model = load_model(options.common);
  const int64_t block = block_of(model, options);
  std::optional<HorizonTable> table;
  if (!options.text.empty()) table = measure(model, options, block);
  const std::vector<float> horizon = table ? table->rows[table->best].horizon : quarter_of(block);
  if (!options.picture.empty()) write_picture(*table, options);
  if (options.write) write_horizon(options.common.directory, horizon);
  tell(horizon, table, options, block);
}

}  // namespace

void add_horizon(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command =
      program.subcommand("horizon", "Find the horizon that lets a model read on past its block");
  add_model_options(command, options->common);
  add_adapter_option(command, options->common);
  const Option text =
      command.option("--text", &options->text,
                     "what to measure on, best unseen in training; without it: a quarter of the block");
  command
      .option("--block", &options->block, "tokens of a training example; default: what the model's files say")
      .range(1, kMaxBlock);
  command.option("--limit", &options->limit, "read at most so many bytes; default: 32 blocks of tokens")
      .range(1, std::numeric_limits<int64_t>::max())
      .needs(text);
  command
      .option("--offset", &options->range.offset,
              "skip so many bytes first; negative: start so far from the end")
      .needs(text);
  command
      .flag("--by-head", &options->by_head, "also look for one for each head, taken when measurably better")
      .needs(text);
  command.flag("--write", &options->write, "put the best into generation_config.json");
  command.option("--picture", &options->picture, "also draw the table into this SVG file").needs(text);
  add_dtype_option(command, options->common);
  add_json_option(command, options->common);
  command.footer(
      "Example: bdh horizon model --text shakespeare.txt --offset -111540 --write\n"
      "A token that lies d tokens back counts exp(-d / horizon). The table has nats per token, lower is "
      "better, "
      "in bands of\n"
      "positions of one unbroken text: in the block the model was trained on, and past it.");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
