// The generation loop: prompts read as one batch, then one token of every unfinished sequence at a time.
#include "bdh/text/generation.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/text/drafts.h"

namespace bdh {
namespace {

/// Adds the time it lives to a sum, in seconds.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

/// One text, and the session that reads it.
struct Sequence {
  size_t index;
  Session* session;  // or null: a clone is to be made once the prompt has been read
  TextInProgress text;
  std::unique_ptr<Session> clone = nullptr;
  double log_probability = 0;  // of the newest token, where on_token is told
};

class Generation {
 public:
  Generation(const Tokenizer& tokenizer, const GenerationConfig& config, const GenerationCallbacks& callbacks,
             const GenerationContext& context)
      : tokenizer_(tokenizer),
        config_(config),
        callbacks_(callbacks),
        cache_(context.cache),
        drafts_(context.drafts),
        draws_(config.max_new_tokens > 0 || config.max_length > 0) {}

  void add(Session& session, const std::string& prompt, const Continuation& before);
  GenerationResult run(ReadOptions options);

 private:
  void prefill(ReadOptions options);
  int64_t read_cached(ReadOptions& options);
  void decode();
  bool read_draft(Sequence& sequence);
  void fork(const std::vector<float>& logits);
  void take(Sequence& sequence, int32_t token);
  void take_from(Sequence& sequence, std::span<const float> logits);
  void read_active(std::vector<std::span<const int32_t>> tokens, ReadOptions options);
  void emit(Sequence& sequence);
  size_t copies() const { return static_cast<size_t>(config_.num_return_sequences); }
  GenerationResult take_result();

  const Tokenizer& tokenizer_;
  const GenerationConfig& config_;
  const GenerationCallbacks& callbacks_;
  PromptCache* cache_;  // or null
  bool drafts_;         // wanted
  bool draws_;          // any tokens
  Drafts guesses_;
  Sampler sampler_;  // of drafts
  std::vector<Sequence> sequences_;
  std::vector<Sequence*> active_;  // the unfinished ones, in order
  bool cancelled_ = false;
  GenerationResult result_;
};

void Generation::add(Session& session, const std::string& prompt, const Continuation& before) {
  take_horizon(session, config_);
  const TextStart first = text_start(tokenizer_, config_, prompt, before, session.position(),
                                     session.weights().config().vocab_size);
  for (size_t copy = 0; copy < copies(); ++copy) {
    TextStart start = first;
    start.sampling.seed += before.seed ? copy : sequences_.size();
    sequences_.push_back({sequences_.size(), copy == 0 ? &session : nullptr,
                          TextInProgress(tokenizer_, config_, std::move(start))});
  }
}

GenerationResult Generation::run(ReadOptions options) {
  for (Sequence& sequence : sequences_)
    if (sequence.session) active_.push_back(&sequence);
  if (callbacks_.on_prefill) {
    options.progress = [this](int64_t done, int64_t total) {
      cancelled_ = !callbacks_.on_prefill(done, total);
      return !cancelled_;
    };
  }
  prefill(options);
  while (!cancelled_ && !active_.empty() && draws_) {
    for (Sequence* sequence : active_) {
      if (!cancelled_ && !sequence->text.finished()) emit(*sequence);
    }
    std::erase_if(active_, [](const Sequence* sequence) { return sequence->text.finished(); });
    if (!cancelled_ && !active_.empty()) decode();
  }
  return take_result();
}

/// Reads the first tokens of a prompt through the cache, where it can be used; returns how many.
int64_t Generation::read_cached(ReadOptions& options) {
  Session& session = *sequences_.front().session;
  if (!cache_ || active_.size() > 1 || session.position() > 0 || options.form != Form::chunked) return 0;
  const std::span<const int32_t> prompt(sequences_.front().text.history());
  const int64_t grid = options.chunk.value_or(session.weights().backend().prefill_tokens());
  const int64_t done = cache_->read(session, prompt, grid, options);
  if (options.progress) {
    options.progress = [done, whole = options.progress](int64_t read, int64_t total) {
      return whole(done + read, done + total);
    };
  }
  return done;
}

/// Reads the prompts, or as much of them as was read when that was cancelled.
void Generation::prefill(ReadOptions options) {
  std::vector<std::span<const int32_t>> prompts;
  const auto read = [before = active_] {
    int64_t position = 0;
    for (const Sequence* sequence : before) position += sequence->session->position();
    return position;
  };
  result_.prefill_tokens -= read();
  for (const Sequence* sequence : active_) prompts.emplace_back(sequence->text.history());
  const Stopwatch watch(result_.prefill_seconds);
  try {
    prompts.front() = prompts.front().subspan(static_cast<size_t>(read_cached(options)));
    read_active(std::move(prompts), options);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::cancelled) throw;
    cancelled_ = true;
  }
  result_.prefill_tokens += read();
}

/// Reads the newest token of every active sequence.
void Generation::decode() {
  if (drafts_ && sequences_.size() == 1 && read_draft(*active_.front())) return;
  std::vector<std::span<const int32_t>> tokens;
  for (const Sequence* sequence : active_) tokens.push_back(std::span(sequence->text.history()).last(1));
  ReadOptions options;
  options.form = Form::recurrent;
  options.activity = &result_.activity;
  const Stopwatch watch(result_.decode_seconds);
  read_active(std::move(tokens), options);
  result_.decode_tokens += static_cast<int64_t>(active_.size());
}

/// Reads tokens[i] into the i-th active sequence, and draws the token that comes next.
void Generation::read_active(std::vector<std::span<const int32_t>> tokens, ReadOptions options) {
  std::vector<Session*> sessions;
  for (const Sequence* sequence : active_) sessions.push_back(sequence->session);
  std::vector<Draw> draws;
  const bool forks = active_.front()->text.drawn() == 0 && copies() > 1;
  const bool here = forks || callbacks_.on_token;  // tokens are drawn from logits, not where those are
  for (Sequence* sequence : active_)
    if (draws_ && !here) draws.push_back(sequence->text.next_draw());
  options.draws = draws;
  const std::vector<float> logits = read_batch(sessions, tokens, options);
  if (!draws_ || cancelled_) return;
  if (forks) return fork(logits);
  const size_t vocab = logits.size() / active_.size();
  for (size_t i = 0; i < active_.size(); ++i) {
    if (here) {
      take_from(*active_[i], std::span(logits).subspan(i * vocab, vocab));
    } else {
      take(*active_[i], draws[i].token);
    }
  }
}

/// Draws the first token of every text from the logits after its prompt, and clones sessions for them.
void Generation::fork(const std::vector<float>& logits) {
  const size_t vocab = logits.size() / active_.size();
  active_.clear();
  for (Sequence& sequence : sequences_) {
    const size_t prompt = sequence.index / copies();
    if (!sequence.session) {
      sequence.clone = std::make_unique<Session>(sequences_[prompt * copies()].session->clone());
      sequence.session = sequence.clone.get();
    }
    take_from(sequence, std::span(logits).subspan(prompt * vocab, vocab));
    active_.push_back(&sequence);
  }
}

void Generation::take(Sequence& sequence, int32_t token) {
  sequence.text.take(token);
  result_.exhausted = result_.exhausted || sequence.text.exhausted();
}

/// Draws the next token from the logits after the newest.
void Generation::take_from(Sequence& sequence, std::span<const float> logits) {
  take(sequence, sampler_.draw(sequence.text.next_draw(), logits));
  if (callbacks_.on_token) sequence.log_probability = log_probability(logits, sequence.text.history().back());
}

/// Reads the newest token and a guess at what follows it, and draws for as long as the draws confirm the
/// guess. False where there is no guess.
bool Generation::read_draft(Sequence& sequence) {
  Session& session = *sequence.session;
  TextInProgress& text = sequence.text;
  const int64_t most = std::min(session.weights().backend().provisional_tokens() - 1, text.room() - 1);
  const std::vector<int32_t> guess = guesses_.next(text.history(), most);
  if (guess.empty()) return false;
  std::vector<int32_t> tokens{text.history().back()};
  tokens.insert(tokens.end(), guess.begin(), guess.end());
  const Stopwatch watch(result_.decode_seconds);
  const std::vector<float> logits = session.read_provisional(tokens, &result_.activity);
  const size_t vocab = logits.size() / tokens.size();
  size_t right = 0;
  for (;; ++right) {
    take_from(sequence, std::span(logits).subspan(right * vocab, vocab));
    if (right == guess.size() || text.history().back() != guess[right]) break;
    emit(sequence);
    if (text.finished() || cancelled_) break;
  }
  session.accept(static_cast<int64_t>(right) + 1);
  guesses_.confirm(static_cast<int64_t>(right));
  result_.decode_tokens += static_cast<int64_t>(right) + 1;
  result_.draft_tokens += static_cast<int64_t>(right);
  return true;
}

/// Turns the newest token into text, and finishes the sequence where it ends.
void Generation::emit(Sequence& sequence) {
  const std::string text = sequence.text.emit();
  const int32_t token = sequence.text.history().back();
  cancelled_ = callbacks_.on_token && !callbacks_.on_token(sequence.index, token, sequence.log_probability);
  cancelled_ = (callbacks_.on_text && !callbacks_.on_text(sequence.index, text)) || cancelled_;
}

GenerationResult Generation::take_result() {
  for (Sequence& sequence : sequences_) {
    if (!sequence.text.finished())
      sequence.text.finish(cancelled_ ? FinishReason::cancelled : FinishReason::length);
    result_.texts.push_back(std::move(sequence.text).result());
  }
  return std::move(result_);
}

}  // namespace

GenerationResult generate(std::span<Session* const> sessions, const Tokenizer& tokenizer,
                          std::span<const std::string> prompts, const GenerationConfig& config,
                          const GenerationCallbacks& callbacks, const ReadOptions& read_options,
                          const GenerationContext& context) {
  const std::span<const Continuation> continued = context.continued;
  config.validate();
  if (sessions.size() != prompts.size()) {
    fail(ErrorKind::invalid_argument, "generate needs a session for each prompt, not ", sessions.size(),
         " for ", prompts.size());
  }
  if (!continued.empty() && continued.size() != sessions.size()) {
    fail(ErrorKind::invalid_argument, "generate needs a continuation for each session or none, not ",
         continued.size(), " for ", sessions.size());
  }
  if (prompts.empty()) return {};
  config.require_possible(sessions.front()->weights().config().vocab_size);
  Generation generation(tokenizer, config, callbacks, context);
  for (size_t i = 0; i < prompts.size(); ++i)
    generation.add(*sessions[i], prompts[i], continued.empty() ? Continuation() : continued[i]);
  return generation.run(read_options);
}

GeneratedText generate(Session& session, const Tokenizer& tokenizer, const std::string& prompt,
                       const GenerationConfig& config,
                       const std::function<bool(std::string_view text)>& on_text) {
  Session* const sessions[] = {&session};
  GenerationConfig one = config;
  one.num_return_sequences = 1;
  GenerationCallbacks callbacks;
  if (on_text) callbacks.on_text = [&](size_t, std::string_view text) { return on_text(text); };
  return std::move(generate(sessions, tokenizer, {&prompt, 1}, one, callbacks).texts.front());
}

}  // namespace bdh
