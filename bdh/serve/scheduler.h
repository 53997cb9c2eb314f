// Scheduler: many texts at once on one model, each as if it were alone.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "bdh/serve/prefix_cache.h"
#include "bdh/text/generation_config.h"
#include "bdh/text/text_in_progress.h"
#include "bdh/text/tokenizer.h"

namespace bdh {

struct SchedulerOptions {
  size_t most_running = 16;  // texts at once, each with a session's memory, which may outlast the text
  size_t most_queued = 256;  // texts that wait for a place
  /// Tokens of a prompt that are read between two steps of those that are writing: what a step can be late
  /// by. Chunks end at positions that are multiples of it, wherever a session stands.
  int64_t chunk = 64;
  DType state_dtype = DType::f32;  // SessionOptions::state_dtype of new sessions
  /// Where prompts begin from; with a grid of `chunk`. Null: at their first token.
  std::shared_ptr<PrefixCache> prefix_cache = nullptr;
};

/// A part of a prompt that was read.
struct PromptPart {
  std::span<const int32_t> tokens;  // (T)
  std::span<const float> logits;    // (T, V) after each, or none
  std::span<const float> x;         // (T, D) as SessionRead::x, or none
};

/// The callbacks are called on the scheduler's thread, and hold up everyone while they run.
struct TextRequest {
  std::string prompt;
  std::optional<std::vector<int32_t>> prompt_tokens;  // in the place of `prompt`, as they are
  GenerationConfig config;                            // num_return_sequences is 1
  std::shared_ptr<const Session> from;  // a copy of it goes on; null: a new one, with config.horizon
  /// Of a new session: the scheduler's, or those with an adapter beside them; null: the scheduler's.
  std::shared_ptr<const Weights> weights;
  bool wants_session = true;  // false: its memory is for the next text, ServedText::session null
  Continuation continued;     // what the text has before the prompt, as in GenerationContext
  /// After each part of the prompt, all of which is then read, with logits and x where those are wanted.
  std::function<void(const PromptPart& part)> on_prompt;
  bool prompt_logits = false, prompt_x = false;
  /// The text that became certain with a token, as GenerationCallbacks::on_text; false cancels.
  std::function<bool(std::string_view text)> on_text;
  /// Each token and the logits (V) that it was drawn from, before on_text; false cancels. Those come back to
  /// the host then, for every text that runs beside this one.
  std::function<bool(int32_t token, std::span<const float> logits)> on_token;
  /// What fired while the token before the next one was read; before on_token, but not for the first token,
  /// as prompts are read in chunks. Where the backend tells it (Backend::tells_inside).
  std::function<void(const TokenTrace& trace)> on_trace;
  /// Its result is there. Must not throw.
  std::function<void()> on_end;
};

struct ServedText {
  GeneratedText text;
  std::unique_ptr<Session>
      session;  // as generate leaves one, all but the last token read; null where it never began
  int64_t cached_tokens = 0;  // of the prompt, that the prefix cache had
};

/// A text that is being made.
class PendingText {
 public:
  /// Waits for its end. Throws the Error that ended it, on the caller's thread; what another exception said,
  /// as Error(cancelled). Once.
  ServedText get();
  void wait() const { outcome_.wait(); }

 private:
  friend class Scheduler;
  struct Failure {
    ErrorKind kind;
    std::string message;
  };
  struct Outcome {
    ServedText served;
    std::optional<Failure> failure;
  };
  explicit PendingText(std::future<Outcome> outcome) : outcome_(std::move(outcome)) {}
  std::future<Outcome> outcome_;
};

struct SchedulerStatus {
  size_t queued = 0, reading = 0, writing = 0;  // texts
  uint64_t ended = 0;                           // texts, cancelled and failed ones too
  uint64_t tokens_read = 0, tokens_cached = 0;  // of prompts
  uint64_t tokens_drawn = 0;
  uint64_t batches = 0;                 // that read the newest token of every text
  uint64_t tokens_batched = 0;          // in them
  std::vector<LayerActivity> activity;  // of them, by layer
};

/// A thread of its own reads prompts a chunk at a time, those that wait for it in turn and short ones
/// together, and after each chunk the newest token of every text that is writing, as one batch. Meanwhile the
/// state that a text begins from is copied, or read from a file, on another. A text has the bits of its
/// request run alone, whatever else runs: no token's sum depends on the batch. All functions may be called
/// from any thread; drain and the destructor not from a callback, for which they would wait.
class Scheduler {
 public:
  using Id = uint64_t;
  struct Ticket {
    Id id;
    PendingText text;
  };

  /// Throws Error(invalid_argument) for options below 1.
  Scheduler(std::shared_ptr<const Weights> weights, std::shared_ptr<const Tokenizer> tokenizer,
            SchedulerOptions options = {});
  /// Ends every text as cancelled.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Takes a request; those that come first are begun first. Nothing where the queue is full, or after drain:
  /// the request is as it was. Throws as generate does before anything is read, and Error(invalid_argument)
  /// for a session of other weights.
  std::optional<Ticket> submit(TextRequest&& request);
  /// Ends a text as cancelled, within a chunk or a token, or once the state that it begins from is there;
  /// what it has so far is its result. Nothing for texts that have ended.
  void cancel(Id id);
  /// Takes no more, and returns when all texts have ended.
  void drain();
  SchedulerStatus status() const;

 private:
  struct Job;
  using Jobs = std::vector<std::unique_ptr<Job>>;

  std::unique_ptr<Job> job_of(TextRequest& request) const;
  void run();
  bool admit();
  void begin(Job& job);
  void prepare(Job& job) const;
  void take_prepared();
  void take_beginning(Job& job);
  std::span<const int32_t> next_chunk(const Job& job) const;
  void read_chunks();
  void read_chunk(Job& job);
  void note_read(Job& job, size_t tokens);
  void write_tokens();
  void read_rows(Job& job, std::span<const int32_t> chunk, const ReadOptions& options);
  void draw(std::span<Job* const> jobs, std::span<const std::span<const int32_t>> tokens,
            const ReadOptions& read);
  void write_traced(std::span<Job* const> jobs, std::span<const std::span<const int32_t>> tokens,
                    ReadOptions options);
  static void emit(Job& job, int32_t token, std::span<const float> logits);
  void settle();
  void give_result(Job& job);
  std::unique_ptr<Session> new_session(const std::shared_ptr<const Weights>& weights, SessionOptions options);
  template <class Action>
  void guarded(std::span<Job* const> jobs, const Action& action);

  std::shared_ptr<const Weights> weights_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  SchedulerOptions options_;
  mutable std::mutex mutex_;  // of what follows, but what is the thread's alone
  std::condition_variable work_, idle_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::map<Id, Job*> jobs_;  // queued and running, and those whose result is being given
  size_t taken_ = 0;         // queued and running
  SchedulerStatus status_;
  Id last_id_ = 0;
  bool closed_ = false, stopping_ = false;
  // The thread's:
  Jobs running_;                                 // in order of arrival
  std::vector<std::unique_ptr<Session>> spare_;  // with running_ at most most_running
  size_t next_reader_ = 0;                       // whose turn it is, among those that read
  std::vector<LayerActivity> activity_;
  std::thread thread_;
};

}  // namespace bdh
