// One text in progress.
#include "bdh/text/text_in_progress.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bdh/base/error.h"

namespace bdh {

namespace {

// The tokenizer's and the config's.
std::set<int64_t> end_tokens(const Tokenizer& tokenizer, const GenerationConfig& config) {
  std::set<int64_t> ends(config.eos.begin(), config.eos.end());
  if (tokenizer.eos()) ends.insert(*tokenizer.eos());
  return ends;
}

}  // namespace

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::length:
      return "length";
    case FinishReason::eos:
      return "eos";
    case FinishReason::stop:
      return "stop";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "unknown";
}

double log_probability(std::span<const float> logits, int32_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return logits[static_cast<size_t>(token)] - largest - std::log(sum);
}

TextStart text_start(const Tokenizer& tokenizer, const GenerationConfig& config,
                     std::span<const int32_t> prompt, const Continuation& before, int64_t vocab_size) {
  TextStart start{before.unread, config.sampling, before.step, before.unread.empty() || !prompt.empty(),
                  std::min(vocab_size, tokenizer.vocab_size())};
  start.sampling.seed = before.seed.value_or(config.sampling.seed);
  start.prompt.insert(start.prompt.end(), prompt.begin(), prompt.end());
  if (start.prompt.empty())
    fail(ErrorKind::invalid_argument, "the prompt is empty: give at least one character to continue");
  for (const int32_t token : start.prompt) {
    if (token < 0 || token >= vocab_size)
      fail(ErrorKind::invalid_argument, "prompt: token ", token, " is outside [0, ", vocab_size, ")");
  }
  return start;
}

TextStart text_start(const Tokenizer& tokenizer, const GenerationConfig& config, const std::string& prompt,
                     const Continuation& before, int64_t position, int64_t vocab_size) {
  EncodeOptions encode;
  encode.special_tokens = position == 0 && before.unread.empty();  // what follows belongs to the text
  const bool goes_on = prompt.empty() && !before.unread.empty();
  return text_start(tokenizer, config,
                    goes_on ? std::vector<int32_t>() : tokenizer.encode_with(encode, prompt), before,
                    vocab_size);
}

void take_horizon(Session& session, const GenerationConfig& config) {
  const bool fresh = session.position() == 0 && session.options().horizon.empty();
  if (!fresh || config.horizon.empty()) return;
  SessionOptions options = session.options();
  options.horizon = config.horizon;
  session.reset(options);
}

TextInProgress::TextInProgress(const Tokenizer& tokenizer, const GenerationConfig& config, TextStart start)
    : history_(std::move(start.prompt)),
      sampling_(start.sampling),
      step_(start.step),
      begins_(start.begins),
      drawable_(start.drawable),
      room_(config.room_after(std::ssize(history_))),
      ends_(end_tokens(tokenizer, config)),
      banned_(config, ends_, drawable_),
      stops_(config.stop),
      decoder_(tokenizer.decode_stream(true)) {
  out_.prompt_tokens = std::ssize(history_);
}

Draw TextInProgress::next_draw() {
  Draw draw{sampling_, drawable_, step_ + out_.tokens.size(), history_};
  draw.banned = banned_.after(history_, out_.prompt_tokens, begins_ && out_.tokens.empty());
  return draw;
}

void TextInProgress::take(int32_t token) {
  exhausted_ = banned_.contains(token);
  history_.push_back(token);
  out_.tokens.push_back(token);
}

std::string TextInProgress::emit() {
  const bool eos = ends_.contains(history_.back());
  std::string text;
  if (!eos) text += stops_.push(decoder_->push(history_.back()));
  if (eos || room() == 0) {
    text += stops_.push(decoder_->finish());
    text += stops_.finish();
    finish(eos ? FinishReason::eos : FinishReason::length);
  }
  if (stops_.stopped()) finish(FinishReason::stop);
  out_.text += text;
  return text;
}

void TextInProgress::finish(FinishReason reason) {
  finished_ = true;
  out_.finish = reason;
}

GeneratedText TextInProgress::result() && {
  out_.next = {{}, sampling_.seed, step_ + out_.tokens.size()};
  if (!out_.tokens.empty()) out_.next.unread.push_back(out_.tokens.back());
  return std::move(out_);
}

}  // namespace bdh
