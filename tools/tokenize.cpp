// `bdh tokenize`: a text as the tokens of a model, tokens as text, or many of both at once. Needs the
// directory's tokenizer files only, no weights.
#include <charconv>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/pretrained/tokenizer_files.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

constexpr size_t kMaxTextBytes = 1'000'000'000;

struct Options {
  std::string directory;
  std::optional<std::string> text, decode;
  std::string text_file, lines;
  std::string standard_input;  // "-"
  bool no_special_tokens = false, no_limits = false, skip_special_tokens = false, pieces = false;
  bool json = false;
  int repeat = 0;  // times to encode for the clock
};

using Tokens = std::vector<int32_t>;

/// What a directory's tokenizer files say, and only where they say nothing, its model.
TokenizerSource source_in(const std::string& directory, int64_t& vocab_size) {
  const std::filesystem::path folder = model_folder(directory);
  if (folder == directory) {
    TokenizerSource source = find_tokenizer(directory, vocab_size);
    if (!source.kind.empty()) return source;
  }
  const ModelFiles opened = open_model(directory);
  vocab_size = opened.model.config.vocab_size;
  return find_tokenizer(folder, vocab_size, opened.model.config.extra, opened.files.values());
}

std::shared_ptr<const Tokenizer> open_tokenizer(const Options& options) {
  int64_t vocab_size = std::numeric_limits<int64_t>::max();
  const TokenizerSource source = source_in(options.directory, vocab_size);
  std::vector<std::string> warnings;
  auto tokenizer = tokenizer_from(source, vocab_size, options.directory, &warnings);
  for (const std::string& warning : warnings) warn(warning);
  if (tokenizer) return tokenizer;
  if (!source.kind.empty()) fail(ErrorKind::unsupported, "this build reads no tokenizer.json");
  fail(ErrorKind::not_found, "'", options.directory,
       "' has no tokenizer.json, and its model is not byte-level");
}

/// Numbers with spaces or commas between.
Tokens parse_tokens(const std::string& text) {
  Tokens tokens;
  for (size_t at = text.find_first_not_of(" ,\n"); at != text.npos; at = text.find_first_not_of(" ,\n", at)) {
    const size_t end = std::min(text.find_first_of(" ,\n", at), text.size());
    int32_t token = 0;
    const auto [stopped, error] = std::from_chars(text.data() + at, text.data() + end, token);
    if (error != std::errc() || stopped != text.data() + end || token < 0)
      fail(ErrorKind::invalid_argument, "--decode: ", printable(text.substr(at, end - at)), " is no token");
    tokens.push_back(token);
    at = end;
  }
  return tokens;
}

Tokens tokens_of(const Json& array) {
  Tokens tokens;
  for (const Json& number : array.as_array()) {
    const int64_t token = number.as_integer();
    if (token < 0 || token > std::numeric_limits<int32_t>::max())
      fail(ErrorKind::bad_file, token, " is no token");
    tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

EncodeOptions encode_options(const Options& options) {
  EncodeOptions encode;
  encode.special_tokens = !options.no_special_tokens;
  encode.limits = !options.no_limits;
  return encode;
}

std::string decoded(const Tokenizer& tokenizer, const Tokens& tokens, bool skip_special_tokens) {
  return skip_special_tokens ? tokenizer.decode_text(tokens) : tokenizer.decode(tokens);
}

Json pieces_of(const Tokenizer& tokenizer, const Tokens& tokens, bool skip_special_tokens) {
  const auto stream = tokenizer.decode_stream(skip_special_tokens);
  Json::Array pieces;
  for (const int32_t token : tokens) pieces.push_back(stream->push(token));
  pieces.push_back(stream->finish());
  return pieces;
}

Json result_of(const Tokenizer& tokenizer, const Tokens& tokens, const Options& options) {
  Json json(Json::Object{});
  json.set("tokens", Json::Array(tokens.begin(), tokens.end()));
  json.set("text", decoded(tokenizer, tokens, options.skip_special_tokens));
  if (options.pieces) json.set("pieces", pieces_of(tokenizer, tokens, options.skip_special_tokens));
  return json;
}

/// Encodes texts again and again, and prints how long each round took.
void run_repeated(const Tokenizer& tokenizer, const std::vector<std::string>& texts, const Options& options) {
  using Clock = std::chrono::steady_clock;
  Json::Array seconds;
  size_t count = 0;
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = Clock::now();
    count = 0;
    for (const std::string& text : texts)
      count += tokenizer.encode_with(encode_options(options), text).size();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    stop_if_interrupted();
  }
  Json json;
  json.set("tokens", static_cast<int64_t>(count));
  json.set("seconds", std::move(seconds));
  write_out(json.dump() + "\n");
}

/// Every text or list of tokens of a JSON array.
void run_lines(const Tokenizer& tokenizer, const Options& options) {
  const Json lines = Json::parse(read_input(options.lines, kMaxTextBytes), options.lines);
  if (options.repeat > 0) {
    std::vector<std::string> texts;
    for (const Json& line : lines.as_array()) texts.push_back(line.as_string());
    return run_repeated(tokenizer, texts, options);
  }
  std::string out = "[";
  size_t index = 0;
  for (const Json& line : lines.as_array()) {
    const Tokens tokens =
        line.is_string() ? tokenizer.encode_with(encode_options(options), line.as_string()) : tokens_of(line);
    if (index++ > 0) out += ",\n";
    out += result_of(tokenizer, tokens, options).dump();
    stop_if_interrupted();
  }
  write_out(out + "]\n");
}

void run_decode(const Tokenizer& tokenizer, const Options& options) {
  const Tokens tokens = parse_tokens(*options.decode);
  write_out(options.json ? result_of(tokenizer, tokens, options).dump() + "\n"
                         : decoded(tokenizer, tokens, options.skip_special_tokens) + "\n");
}

void run_encode(const Tokenizer& tokenizer, const Options& options) {
  const bool from_stdin = !options.standard_input.empty();
  const std::string text =
      options.text ? *options.text : read_input(from_stdin ? "-" : options.text_file, kMaxTextBytes);
  if (options.repeat > 0) return run_repeated(tokenizer, {text}, options);
  const Tokens tokens = tokenizer.encode_with(encode_options(options), text);
  if (options.json) {
    Json json = result_of(tokenizer, tokens, options);
    Json::Array texts;
    for (const int32_t token : tokens) texts.push_back(tokenizer.token_text(token).value_or(""));
    json.set("texts", std::move(texts));
    return write_out(json.dump() + "\n");
  }
  std::string out;
  for (const int32_t token : tokens)
    out += concat(token, "\t", one_line(tokenizer.token_text(token).value_or("")), "\n");
  write_out(out);
}

void run(const Options& options) {
  const int ways = options.text.has_value() + !options.text_file.empty() + !options.standard_input.empty() +
                   !options.lines.empty() + options.decode.has_value();
  if (ways != 1)
    throw UsageError(
        "text: give exactly one of --text TEXT, --text-file FILE, --lines FILE, --decode TOKENS, or - to "
        "read "
        "standard input");
  const auto tokenizer = open_tokenizer(options);
  if (!options.lines.empty()) return run_lines(*tokenizer, options);
  if (options.decode) return run_decode(*tokenizer, options);
  run_encode(*tokenizer, options);
}

}  // namespace

void add_tokenize(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("tokenize", "Show a text as tokens, or tokens as text");
  command.option("DIR", &options->directory, "directory with tokenizer.json, or of a byte-level model")
      .required();
  command.option("INPUT", &options->standard_input, "- reads the text from standard input").choices({"-"});
  command.option("--text", &options->text, "the text");
  command.option("--text-file", &options->text_file, "a file with the text; - is standard input");
  command.option("--lines", &options->lines,
                 "a JSON array of texts and lists of tokens, done at once; prints a JSON array");
  command.option("--decode", &options->decode, "tokens to turn into text: \"5 17 2\"");
  command.flag("--no-special-tokens", &options->no_special_tokens,
               "without the tokens that the tokenizer puts around a text");
  command.flag("--no-limits", &options->no_limits, "without the tokenizer's truncation and padding");
  command.flag("--skip-special-tokens", &options->skip_special_tokens, "leave special tokens out of text");
  command.flag("--pieces", &options->pieces, "in JSON: also the text piece by piece, as it is streamed");
  command.flag("--json", &options->json, "print the result as JSON");
  command.option("--repeat", &options->repeat, "encode this many times, and print the seconds each time took")
      .range(1, 1'000'000);
  command.footer(
      "Example: bdh tokenize model --text \"To be, or not to be\"\n"
      "A token a line, its number and its text. With --json: `tokens`, their `texts`, and the `text` they "
      "decode to.");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
