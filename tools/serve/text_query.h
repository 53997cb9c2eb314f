// TextQuery: what a request for texts says, whichever of the three ways it is asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bdh/text/generation_config.h"
#include "tools/serve/parameters.h"

namespace bdh::tools {

/// A prompt as it was given: text, or tokens.
struct GivenPrompt {
  std::string text;
  std::optional<std::vector<int32_t>> tokens;
};

struct TextQuery {
  std::string model;
  std::vector<GivenPrompt> prompts;
  GenerationConfig config;
  std::optional<uint64_t> seed;
  int64_t n = 1;
  bool echo = false, stream = false, include_usage = false;
  bool activity = false;            // what fired
  std::optional<int64_t> logprobs;  // so many likeliest tokens beside each; none: no log probabilities
  bool chat_logprobs = false;       // a chat says so in two parts
  std::optional<int64_t> top_logprobs;
  std::string state;  // to go on from
  bool return_state = false;
  std::string state_name;  // of the one returned; "": a new one
  std::optional<bool> do_sample;
};

struct QueryLimits {
  int64_t tokens = 4096;  // of one text
};

/// Writes a conversation as the text that a reply continues. The format has {role} and {content}.
class ChatFormat {
 public:
  /// Throws Error(invalid_argument) for a format without {content}.
  explicit ChatFormat(const std::string& format);
  std::string prompt(const Json& messages) const;
  /// What ends a reply: the format's text after {content}; "": nothing does.
  const std::string& end() const { return after_; }

 private:
  std::string before_, after_;  // {content}
};

Parameters<TextQuery> completion_parameters(const QueryLimits& limits);
Parameters<TextQuery> chat_parameters(const QueryLimits& limits, const ChatFormat& format);
Parameters<TextQuery> generate_parameters(const QueryLimits& limits);

/// Fit for a state: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot. Throws ApiError(400).
void check_state_name(const std::string& name);

}  // namespace bdh::tools
