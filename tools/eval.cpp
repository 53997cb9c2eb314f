// `bdh eval`: how well a model predicts a text, in nats per token and bits per byte: as independent blocks,
// or as one unbroken stream in constant memory.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numbers>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/horizon.h"
#include "tools/command.h"
#include "tools/loss.h"
#include "tools/text_blocks.h"

namespace bdh::tools {
namespace {

struct Options {
  CommonOptions common;
  FormOptions form;
  TextRange range;
  std::string text, horizon;
  int64_t block = 256;
  bool stream = false;
};

struct Loss {
  double nats = 0;  // summed over tokens
  int64_t tokens = 0;
  double bytes_per_token = 1;

  double nats_per_token() const { return nats / static_cast<double>(tokens); }
  double bits_per_byte() const { return nats_per_token() / std::numbers::ln2 / bytes_per_token; }
};

/// logits (T, V), targets (T).
void add_losses(Loss& loss, std::span<const float> logits, std::span<const int32_t> targets) {
  const size_t vocabulary = logits.size() / targets.size();
  for (size_t i = 0; i < targets.size(); ++i)
    loss.nats += loss_of(logits.subspan(i * vocabulary, vocabulary), targets[i]);
  loss.tokens += static_cast<int64_t>(targets.size());
}

/// Reads blocks together, or one after the other where the form needs a session.
class BlockLoss {
 public:
  BlockLoss(const Model& model, const Options& options) : model_(model) {
    read_.form = parse_form(options.form.form);
    read_.chunk = options.form.chunk;
    if (read_.form != Form::parallel || !options.horizon.empty())
      session_.emplace(model.weights, session_options(options.horizon, options.common));
  }

  size_t batch(int64_t block) const {
    if (session_) return 1;
    return blocks_together(block, model_.config().vocab_size);
  }

  void add(Loss& loss, const std::vector<Tokens>& blocks) {
    std::vector<std::span<const int32_t>> inputs;
    for (const Tokens& block : blocks) inputs.push_back(std::span(block).first(block.size() - 1));
    const std::vector<float> logits = read(inputs);
    const size_t rows = blocks.front().size() - 1, size = logits.size() / blocks.size();
    for (size_t i = 0; i < blocks.size(); ++i)
      add_losses(loss, std::span(logits).subspan(i * size, size), std::span(blocks[i]).last(rows));
  }

 private:
  std::vector<float> read(const std::vector<std::span<const int32_t>>& inputs) {
    if (!session_) return forward(*model_.weights, inputs);
    session_->reset();
    return session_->read_all(inputs.front(), read_);
  }

  const Model& model_;
  ReadOptions read_;
  std::optional<Session> session_;
};

Loss block_loss(const Model& model, TokenSource& text, const Options& options) {
  TextBlocks blocks(text, options.block);
  BlockLoss reader(model, options);
  const size_t batch = reader.batch(options.block);
  Progress progress("reading", "tokens");
  Loss loss;
  for (auto some = blocks.next(batch); !some.empty(); some = blocks.next(batch)) {
    reader.add(loss, some);
    progress.update(loss.tokens, blocks.total());
    stop_if_interrupted();
  }
  if (loss.tokens == 0)
    fail(ErrorKind::invalid_argument, "the text is too short for --block ", options.block,
         ": it needs at least ", options.block + 2, " tokens");
  return loss;
}

Loss stream_loss(const Model& model, TokenSource& text, const Options& options) {
  ReadOptions read;
  read.form = parse_form(options.form.form);
  read.chunk = options.form.chunk;
  if (read.form == Form::parallel)
    fail(ErrorKind::invalid_argument,
         "--stream needs constant memory: use --form chunked or recurrent, not parallel");
  Session session(model.weights, session_options(options.horizon, options.common));
  Progress progress("reading", "tokens");
  Loss loss;
  Tokens tokens = text.read(1);
  const auto piece = static_cast<size_t>(read.chunk.value_or(model.weights->backend().prefill_tokens()));
  while (true) {
    const Tokens more = text.read(piece);
    if (more.empty()) break;
    tokens.insert(tokens.end(), more.begin(), more.end());
    add_losses(loss, session.read_all(std::span(tokens).first(more.size()), read), more);
    tokens.erase(tokens.begin(), tokens.end() - 1);
    progress.update(loss.tokens, text.size().value_or(1) - 1);
    stop_if_interrupted();
  }
  if (loss.tokens == 0)
    fail(ErrorKind::invalid_argument, "the text is too short: it needs at least 2 tokens");
  return loss;
}

void print_json(const Model& model, const Options& options, const Loss& loss, double seconds) {
  Json json;
  json.set("nats_per_token", loss.nats_per_token());
  json.set("bits_per_byte", loss.bits_per_byte());
  json.set("tokens", loss.tokens);
  json.set("seconds", seconds);
  json.set("tokens_per_second", static_cast<double>(loss.tokens) / seconds);
  json.set("block", options.stream ? Json() : Json(options.block));
  json.set("form", options.form.form);
  json.set("horizon", horizon_to_json(session_options(options.horizon, options.common).horizon));
  json.set("dtype", model.weights->dtype_name());
  json.set("backend", model.weights->backend().name());
  write_out(json.dump(2) + "\n");
}

void print_text(const Loss& loss, double seconds) {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "nats per token     %.6f\nbits per byte      %.6f\ntokens             %lld\ntokens per second  %.1f\n",
      loss.nats_per_token(), loss.bits_per_byte(), static_cast<long long>(loss.tokens),
      static_cast<double>(loss.tokens) / seconds);
  write_out(text);
}

void run(Options options) {
  if (options.form.form.empty()) options.form.form = options.stream ? "chunked" : "parallel";
  TextSource bytes(options.text, options.range);
  const Model model = load_model(options.common);
  TokenSource text(bytes, tokenizer_of(model));
  const auto start = std::chrono::steady_clock::now();
  Loss loss = options.stream ? stream_loss(model, text, options) : block_loss(model, text, options);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  loss.bytes_per_token = text.bytes_per_token();
  if (options.common.json) return print_json(model, options, loss, seconds);
  print_text(loss, seconds);
}

}  // namespace

void add_eval(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("eval", "Measure how well a model predicts a text");
  add_model_options(command, options->common);
  add_adapter_option(command, options->common);
  command.option("--text", &options->text, "the text; - is standard input").required();
  const Option block =
      command.option("--block", &options->block, "tokens in an independent block; default 256")
          .range(1, kMaxBlock);
  command.flag("--stream", &options->stream, "one unbroken stream instead of blocks, in constant memory")
      .excludes(block);
  command.option("--limit", &options->range.limit, "read at most so many bytes")
      .range(0, std::numeric_limits<int64_t>::max());
  command.option("--offset", &options->range.offset,
                 "skip so many bytes first; negative: start so far from the end");
  add_form_options(command, options->form);
  add_horizon_option(command, options->horizon, "default: none");
  add_dtype_option(command, options->common);
  add_state_dtype_option(command, options->common);
  add_json_option(command, options->common);
  command.footer("Example: bdh eval model --text shakespeare.txt --offset -111540 --stream");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
