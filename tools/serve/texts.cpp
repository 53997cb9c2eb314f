// From the scheduler's callbacks to pieces that wait for the request's thread.
#include "tools/serve/texts.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <numeric>
#include <utility>

#include "tools/serve/api_error.h"

namespace bdh::tools {
namespace {

constexpr auto kLook = std::chrono::milliseconds(10);  // between two looks at the client and its pieces
constexpr size_t kMostWaiting = 16 << 20;              // bytes of pieces that a client has not taken yet

std::vector<RankedToken> likeliest(std::span<const float> logits, int64_t count, double log_of_sum) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto wanted = std::min<int64_t>(count, std::ssize(order));
  const auto above = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::partial_sort(order.begin(), order.begin() + wanted, order.end(), above);
  std::vector<RankedToken> top;
  for (int64_t i = 0; i < wanted; ++i) {
    const int32_t token = order[static_cast<size_t>(i)];
    top.push_back({token, logits[static_cast<size_t>(token)] - log_of_sum});
  }
  return top;
}

/// `logits`: what the token was drawn from, or might have been.
TokenReport report_of(int32_t token, std::span<const float> logits, int64_t top) {
  const double own = logits[static_cast<size_t>(token)];
  const double log_of_sum = own - log_probability(logits, token);
  return {token, own - log_of_sum, likeliest(logits, top, log_of_sum), {}};
}

size_t bytes_of(const TextPiece& piece) {
  size_t bytes = sizeof piece + piece.characters.size();
  for (const TokenReport& report : piece.tokens) {
    bytes += sizeof report + report.top.size() * sizeof(RankedToken);
    for (const std::vector<FiredNeuron>& layer : report.trace) bytes += layer.size() * sizeof(FiredNeuron);
  }
  return bytes;
}

}  // namespace

class Texts::Inbox {
 public:
  explicit Inbox(bool at_once) : at_once_(at_once) {}

  /// False: there is no room for more of the text.
  bool put(TextPiece piece) {
    const std::lock_guard lock(mutex_);
    full_ = full_ || (bytes_ > kMostWaiting && !piece.is_last);
    bytes_ += bytes_of(piece);
    is_due_ = is_due_ || at_once_ || piece.is_last || bytes_ > kMostWaiting / 2;
    piece.came = Clock::now();
    pieces_.push_back(std::move(piece));
    if (is_due_) came_.notify_one();
    return !full_;
  }
  /// The next piece, or nothing where none comes in a while.
  std::optional<TextPiece> take() {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, kLook, [this] { return is_due_; });
    is_due_ = !pieces_.empty();
    if (!is_due_) return {};
    TextPiece piece = std::move(pieces_.front());
    pieces_.pop_front();
    bytes_ -= bytes_of(piece);
    is_due_ = !pieces_.empty();
    return piece;
  }
  bool is_full() const {
    const std::lock_guard lock(mutex_);
    return full_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable came_;
  std::deque<TextPiece> pieces_;
  size_t bytes_ = 0;
  bool full_ = false, is_due_ = false;
  const bool at_once_;
};

namespace {

/// What the callbacks of one text know. `before`: the logits after the prompt's last token so far.
struct Watch {
  size_t text;
  std::optional<int64_t> top;
  std::vector<TokenReport> newest;
  std::vector<float> before;
  TokenTrace trace;
};

std::vector<TokenReport> report_prompt(const PromptPart& part, Watch& watch) {
  std::vector<TokenReport> reports;
  const size_t vocab = part.logits.size() / part.tokens.size();
  std::span<const float> before = watch.before;
  for (size_t i = 0; i < part.tokens.size(); ++i) {
    reports.push_back(before.empty() ? TokenReport{part.tokens[i], {}, {}, {}}
                                     : report_of(part.tokens[i], before, *watch.top));
    before = part.logits.subspan(i * vocab, vocab);
  }
  watch.before.assign(before.begin(), before.end());
  return reports;
}

}  // namespace

Texts::Texts(std::shared_ptr<Scheduler> scheduler, Metrics& metrics, std::vector<TextRequest> requests,
             TextsOptions options)
    : scheduler_(std::move(scheduler)),
      metrics_(metrics),
      options_(std::move(options)),
      inbox_(std::make_shared<Inbox>(options_.at_once)),
      results_(requests.size()),
      newest_(requests.size(), begun_),
      has_begun_(requests.size()),
      open_(requests.size()) {
  for (size_t text = 0; text < requests.size(); ++text) {
    TextRequest& request = requests[text];
    const auto watch = std::make_shared<Watch>(Watch{text, options_.top, {}, {}, {}});
    if (options_.top) {
      request.on_token = [watch](int32_t token, std::span<const float> logits) {
        watch->newest.push_back(report_of(token, logits, *watch->top));
        watch->newest.back().trace = std::exchange(watch->trace, {});
        return true;
      };
    }
    if (options_.top && options_.traces)
      request.on_trace = [watch](const TokenTrace& trace) { watch->trace = trace; };
    if (options_.top && options_.prompt_tokens) {
      request.prompt_logits = true;
      request.on_prompt = [watch, inbox = inbox_](const PromptPart& part) {
        inbox->put({watch->text, "", report_prompt(part, *watch), true});
      };
    }
    request.on_text = [watch, inbox = inbox_](std::string_view characters) {
      return inbox->put({watch->text, std::string(characters), std::exchange(watch->newest, {})});
    };
    request.on_end = [text, inbox = inbox_] { inbox->put({.text = text, .is_last = true}); };
  }
  try {
    for (TextRequest& request : requests) {
      std::optional<Scheduler::Ticket> ticket = scheduler_->submit(std::move(request));
      if (!ticket) {
        ++metrics_.turned_away;
        throw ApiError(429, "as many texts wait as the server takes; try again later");
      }
      tickets_.push_back(std::move(*ticket));
    }
  } catch (...) {
    cancel();
    throw;
  }
}

Texts::~Texts() { cancel(); }

void Texts::cancel() {
  for (const Scheduler::Ticket& ticket : tickets_) scheduler_->cancel(ticket.id);
}

void Texts::check() const {
  if (options_.is_gone()) throw ApiError(499, "the client has gone");
  if (inbox_->is_full()) throw ApiError(408, "the client takes its text more slowly than it is written");
  if (std::chrono::duration<double>(Clock::now() - begun_).count() > options_.seconds) {
    throw ApiError(504, concat("the request took longer than ", options_.seconds,
                               " s; ask for fewer tokens, or let the server give more time"));
  }
}

TextPiece Texts::wait() {
  while (true) {
    std::optional<TextPiece> piece = inbox_->take();
    check();
    if (piece) return std::move(*piece);
  }
}

std::optional<TextPiece> Texts::next() {
  if (open_ == 0) return {};
  TextPiece piece = wait();
  measure(piece);
  if (piece.is_last) {
    results_[piece.text] = tickets_[piece.text].text.get();
    --open_;
    metrics_.prompt_tokens += static_cast<uint64_t>(results_[piece.text].text.prompt_tokens);
    metrics_.text_tokens += results_[piece.text].text.tokens.size();
  }
  return piece;
}

void Texts::measure(const TextPiece& piece) {
  if (piece.is_prompt || piece.is_last) return;
  const double seconds = std::chrono::duration<double>(piece.came - newest_[piece.text]).count();
  (has_begun_[piece.text] ? metrics_.between_tokens : metrics_.first_token).add(seconds);
  newest_[piece.text] = piece.came;
  has_begun_[piece.text] = true;
}

}  // namespace bdh::tools
