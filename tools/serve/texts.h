// Texts: those of one request, made by a model's scheduler, as pieces on the request's own thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdh/serve/scheduler.h"
#include "tools/serve/metrics.h"

namespace bdh::tools {

struct RankedToken {
  int32_t token;
  double log_probability;
};

/// A token and what else might have stood there.
struct TokenReport {
  int32_t token = 0;
  std::optional<double> log_probability;  // none for the first of a prompt
  std::vector<RankedToken> top;           // the likeliest first
  TokenTrace trace;                       // of the token before it, where it is wanted and known
};

struct TextPiece {
  size_t text = 0;
  std::string characters = {};
  std::vector<TokenReport> tokens = {};
  bool is_prompt = false;  // tokens are of the prompt
  bool is_last = false;    // the text is at its end: result
  std::chrono::steady_clock::time_point came = {};
};

struct TextsOptions {
  std::optional<int64_t> top;  // so many likeliest tokens beside each token; none: no tokens are told
  bool prompt_tokens = false;  // of the prompt too
  bool traces = false;
  double seconds = 0;  // from now on, at most
  std::function<bool()> is_gone;
  bool at_once = false;  // a piece wakes who waits for it; else the last one does, and a look now and then
};

class Texts {
 public:
  /// Submits all or none. Throws ApiError(429) where the queue is full, and what Scheduler::submit throws.
  Texts(std::shared_ptr<Scheduler> scheduler, Metrics& metrics, std::vector<TextRequest> requests,
        TextsOptions options);
  /// Cancels what is not at its end.
  ~Texts();
  Texts(const Texts&) = delete;
  Texts& operator=(const Texts&) = delete;

  /// Waits for the next piece of any text; nothing after all have ended. Throws ApiError(504) past the time,
  /// ApiError(499) when the client has gone, and the Error that ended a text.
  std::optional<TextPiece> next();
  /// The text whose last piece has come.
  ServedText& result(size_t text) { return results_[text]; }
  size_t count() const { return tickets_.size(); }

 private:
  using Clock = std::chrono::steady_clock;
  class Inbox;  // where the scheduler's thread puts pieces

  void check() const;
  TextPiece wait();
  void measure(const TextPiece& piece);
  void cancel();

  std::shared_ptr<Scheduler> scheduler_;
  Metrics& metrics_;
  TextsOptions options_;
  Clock::time_point begun_ = Clock::now();
  std::shared_ptr<Inbox> inbox_;
  std::vector<Scheduler::Ticket> tickets_;
  std::vector<ServedText> results_;
  std::vector<Clock::time_point> newest_;  // when each text's newest token came
  std::vector<bool> has_begun_;
  size_t open_ = 0;
};

}  // namespace bdh::tools
