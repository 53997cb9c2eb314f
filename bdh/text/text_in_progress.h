// TextInProgress: one text on its way from draws to characters, where it ends, and what may be drawn next.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/model/session.h"
#include "bdh/text/banned_tokens.h"
#include "bdh/text/generation_config.h"
#include "bdh/text/stop_strings.h"
#include "bdh/text/tokenizer.h"
#include "kernels/sampler.h"

namespace bdh {

enum class FinishReason : uint8_t { length, eos, stop, cancelled };
/// "length", "eos", "stop", "cancelled".
std::string_view name_of(FinishReason reason);

struct GeneratedText {
  /// Without the prompt, the stop string and special tokens; valid UTF-8, whatever bytes the tokens stand for
  /// (Utf8Stream says how). All that on_text was given, put together.
  std::string text;
  std::vector<int32_t> tokens;  // every token generated, those of a stop string and the end-of-text token too
  int64_t prompt_tokens = 0;
  FinishReason finish = FinishReason::length;
  Continuation next;  // what generate takes to go on: the last token unread, the seed and the step
};

/// The natural logarithm of a token's probability under the model.
double log_probability(std::span<const float> logits, int32_t token);

/// Where a text begins.
struct TextStart {
  std::vector<int32_t> prompt;  // tokens, at least one
  SamplingOptions sampling;
  uint64_t step = 0;     // draws before its first
  bool begins = true;    // what is drawn first is the first of the text
  int64_t drawable = 0;  // tokens below this may be drawn
};

/// The text that goes on with `prompt` after `before`, in a session that stands at `position`, of a model
/// with that vocabulary. Special tokens stand around a prompt that begins at position 0. Throws
/// Error(invalid_argument) where there is no token.
TextStart text_start(const Tokenizer& tokenizer, const GenerationConfig& config, const std::string& prompt,
                     const Continuation& before, int64_t position, int64_t vocab_size);
/// The same for a prompt in tokens, which are taken as they are. Throws Error(invalid_argument) for one
/// outside the vocabulary, too.
TextStart text_start(const Tokenizer& tokenizer, const GenerationConfig& config,
                     std::span<const int32_t> prompt, const Continuation& before, int64_t vocab_size);

/// A session that has read nothing and has no horizon takes the config's.
void take_horizon(Session& session, const GenerationConfig& config);

/// Not for concurrent use.
class TextInProgress {
 public:
  /// Refers to the tokenizer. Throws Error(invalid_argument) where max_length leaves no room.
  TextInProgress(const Tokenizer& tokenizer, const GenerationConfig& config, TextStart start);

  /// The prompt and what was drawn.
  const std::vector<int32_t>& history() const { return history_; }
  int64_t drawn() const { return std::ssize(out_.tokens); }
  /// Tokens that may still be drawn.
  int64_t room() const { return room_ - drawn(); }

  /// The next token, to be drawn. Refers to this text, until it is given the token.
  Draw next_draw();
  void take(int32_t token);
  /// Whether the newest token was banned: all were.
  bool exhausted() const { return exhausted_; }

  /// The text that became certain with the newest token, which may end it.
  std::string emit();
  bool finished() const { return finished_; }
  void finish(FinishReason reason);
  GeneratedText result() &&;

 private:
  std::vector<int32_t> history_;
  SamplingOptions sampling_;
  uint64_t step_;
  bool begins_;
  int64_t drawable_, room_;
  std::set<int64_t> ends_;
  BannedTokens banned_;
  StopStrings stops_;
  std::unique_ptr<DecodeStream> decoder_;
  GeneratedText out_;
  bool exhausted_ = false, finished_ = false;
};

}  // namespace bdh
