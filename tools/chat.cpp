// `bdh chat`: a line in, the model's continuation out, over one session that remembers everything said.
// Only the model's text goes to stdout; the prompt sign, hints and answers to commands go to stderr.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "tools/command.h"
#include "tools/sampling_options.h"
#include "tools/session_options.h"

namespace bdh::tools {
namespace {

constexpr const char* kBlankLine = "\n\n";  // where a reply ends unless --stop says otherwise

struct Options {
  CommonOptions common;
  SamplingFlags sampling;
  SessionFlags session;
};

void say(const std::string& message) { std::fprintf(stderr, "%s\n", message.c_str()); }

/// Lines of standard input, and a prompt sign where it is a terminal.
class Lines {
 public:
  Lines() = default;
  ~Lines() { free(buffer_); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  /// The next line without its end; nothing at the end of input. Throws Error(cancelled) for Ctrl-C.
  std::optional<std::string> next() {
    if (terminal_) std::fputs("> ", stderr);
    const ssize_t length = getline(&buffer_, &capacity_, stdin);
    if (length < 0 && terminal_) std::fputs("\n", stderr);
    stop_if_interrupted();
    if (length < 0) return {};
    std::string line(buffer_, static_cast<size_t>(length));
    if (line.ends_with('\n')) line.pop_back();
    return line;
  }

 private:
  bool terminal_ = isatty(STDIN_FILENO) == 1;
  char* buffer_ = nullptr;
  size_t capacity_ = 0;
};

class Chat {
 public:
  Chat(const Model& model, GenerationConfig config, Session session, Continuation text,
       std::optional<PromptCache> cache, bool drafts)
      : model_(model),
        config_(std::move(config)),
        session_(std::move(session)),
        cache_(std::move(cache)),
        drafts_(drafts),
        text_(std::move(text)),
        replies_(text_.step) {}

  /// Reads the line and streams the reply.
  void answer(const std::string& line);
  /// "/name argument". False for /quit.
  bool command(const std::string& line);
  /// Writes the session, where that is asked for.
  void keep(const SessionFlags& flags) const {
    Continuation text = text_;
    text.seed = config_.sampling.seed;
    text.step = replies_;
    keep_session(session_, text, flags);
  }

 private:
  struct Command {
    std::string_view name, argument, help;
    bool (Chat::*run)(const std::string& argument);  // false: the argument is wrong
  };
  static const Command kCommands[];

  bool set_temperature(const std::string& argument);
  bool set_top_k(const std::string& argument);
  bool set_seed(const std::string& argument);
  bool reset(const std::string& argument);
  bool help(const std::string& argument);
  bool quit(const std::string& argument);
  void read_last_token();
  void warn_past_block();

  const Model& model_;
  GenerationConfig config_;
  Session session_;
  std::optional<PromptCache> cache_;
  bool drafts_;
  Continuation text_;     // generate leaves its last token unread
  uint64_t replies_ = 0;  // since the seed was set: reply i draws with seed + i
  bool warned_ = false;
  bool open_ = true;
};

const Chat::Command Chat::kCommands[] = {
    {"/temp", " X", "temperature; 0 is greedy", &Chat::set_temperature},
    {"/top_k", " K", "choose among the K likeliest tokens; 0: among all", &Chat::set_top_k},
    {"/seed", " S", "the same seed gives the same replies", &Chat::set_seed},
    {"/reset", "", "forget everything said", &Chat::reset},
    {"/help", "", "this list", &Chat::help},
    {"/quit", "", "leave; so does Ctrl-D", &Chat::quit},
};

void Chat::read_last_token() {
  if (!text_.unread.empty()) session_.read(text_.unread);
  text_.unread.clear();
}

void Chat::warn_past_block() {
  const std::string warning = past_block_warning(model_, config_.horizon, session_.position());
  if (warning.empty() || std::exchange(warned_, true)) return;
  warn(warning);
}

void Chat::answer(const std::string& line) {
  const Tokenizer& tokenizer = tokenizer_of(model_);
  read_last_token();
  GenerationConfig config = config_;
  config.sampling.seed += replies_++;
  Progress progress("reading", "tokens");
  Session* session = &session_;
  const std::string prompt = line + "\n";
  const GeneratedText reply =
      generate({&session, 1}, tokenizer, {&prompt, 1}, config, generation_callbacks(progress), {},
               {{}, cache_ ? &*cache_ : nullptr, drafts_})
          .texts.front();
  text_.unread = reply.next.unread;
  if (!reply.text.ends_with('\n')) write_out("\n");
  warn_past_block();
}

bool Chat::command(const std::string& line) {
  const std::string name = line.substr(0, line.find_first_of(" \t"));
  const size_t begin = std::min(line.find_first_not_of(" \t", name.size()), line.size());
  const size_t end = line.find_last_not_of(" \t") + 1;
  const std::string argument = line.substr(begin, std::max(begin, end) - begin);
  const auto found = std::find_if(std::begin(kCommands), std::end(kCommands),
                                  [&](const Command& command) { return command.name == name; });
  if (found == std::end(kCommands)) {
    say(concat("there is no command ", printable(name), "; /help lists the commands"));
  } else if (!(this->*found->run)(argument)) {
    say(concat("usage: ", found->name, found->argument, ": ", found->help));
  }
  return open_;
}

bool Chat::set_temperature(const std::string& argument) {
  const auto number = parse_number<float>(argument);
  if (!number || !(*number >= 0 && *number <= std::numeric_limits<float>::max())) return false;
  config_.sampling.temperature = *number;
  config_.sampling.do_sample = true;
  say(concat("temperature ", *number));
  return true;
}

bool Chat::set_top_k(const std::string& argument) {
  const auto number = parse_number<int64_t>(argument);
  if (!number || *number < 0) return false;
  config_.sampling.top_k = *number;
  say(concat("top_k ", *number));
  return true;
}

bool Chat::set_seed(const std::string& argument) {
  const auto number = parse_number<uint64_t>(argument);
  if (!number) return false;
  config_.sampling.seed = *number;
  replies_ = 0;
  say(concat("seed ", *number));
  return true;
}

bool Chat::reset(const std::string& argument) {
  if (!argument.empty()) return false;
  session_.reset();
  text_.unread.clear();
  replies_ = 0;
  say("a new session");
  return true;
}

bool Chat::help(const std::string&) {
  for (const Command& command : kCommands) {
    const std::string usage = concat(command.name, command.argument);
    std::fprintf(stderr, "%-10s %s\n", usage.c_str(), std::string(command.help).c_str());
  }
  return true;
}

bool Chat::quit(const std::string& argument) {
  open_ = !argument.empty();
  return !open_;
}

void run(const Options& options) {
  const Model model = load_model(options.common);
  GenerationConfig config = with_flags(model.generation, options.sampling);
  if (std::exchange(config.num_return_sequences, 1) > 1)
    warn("num_return_sequences is ignored: a chat has one reply");
  config.require_possible(model.config().vocab_size);
  if (config.stop.empty()) config.stop = {kBlankLine};
  tokenizer_of(model);
  Continuation text;
  Session session = begin_session(model, options.common, options.session, config,
                                  !options.sampling.horizon.empty(), options.sampling.seed.has_value(), text);
  say(concat("seed ", config.sampling.seed, "; /help lists the commands"));
  Chat chat(model, config, std::move(session), std::move(text), prompt_cache(options.session),
            options.session.drafts);
  Lines lines;
  while (const auto line = lines.next()) {
    if (!line->starts_with('/')) {
      chat.answer(*line);
    } else if (!chat.command(*line)) {
      break;
    }
    catch_interrupts();
  }
  chat.keep(options.session);
}

}  // namespace

void add_chat(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("chat", "Write with a model, line by line");
  add_model_options(command, options->common);
  add_adapter_option(command, options->common);
  add_dtype_option(command, options->common);
  add_state_dtype_option(command, options->common);
  add_sampling_options(command, options->sampling);
  add_session_options(command, options->session);
  command.footer(
      "Example: bdh chat model --temperature 0.7\n"
      "The session remembers all that was said. Your line is added to it, its line break included, and the "
      "model\n"
      "continues it: to a blank line (or --stop), for at most --max-new-tokens. There is no chat template: "
      "write as the\n"
      "model's training text does. An empty line lets the model go on.\n"
      "Lines that begin with / are commands, /help lists them. Ctrl-C ends a reply, Ctrl-D the chat.");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
