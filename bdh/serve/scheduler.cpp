// The scheduler's thread: a chunk of one prompt, then a token of every text, and again.
#include "bdh/serve/scheduler.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <new>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "kernels/limits.h"

namespace bdh {

struct Scheduler::Job {
  Id id = 0;
  TextRequest request;
  TextInProgress text;
  std::unique_ptr<Session> session;
  size_t read = 0;  // tokens of the prompt
  int64_t cached = 0;
  std::future<void> preparation;  // of its session; until take_prepared
  bool is_prepared = true;        // the scheduler's mutex guards it
  std::optional<PrefixCache::Beginning> beginning;
  PrefixCache::Plan plan;
  std::promise<PendingText::Outcome> promise;
  std::optional<PendingText::Failure> failure;
  std::atomic<bool> cancelled = false;

  Job(TextRequest&& taken, TextInProgress&& begun) : request(std::move(taken)), text(std::move(begun)) {}

  bool ended() const { return text.finished() || failure; }
  bool is_reading() const { return !ended() && text.drawn() == 0; }
  bool is_writing() const { return !ended() && text.drawn() > 0; }
  bool wants_rows() const { return request.prompt_logits || request.prompt_x; }
};

ServedText PendingText::get() {
  Outcome outcome = outcome_.get();
  if (outcome.failure) throw Error(outcome.failure->kind, outcome.failure->message);
  return std::move(outcome.served);
}

Scheduler::Scheduler(std::shared_ptr<const Weights> weights, std::shared_ptr<const Tokenizer> tokenizer,
                     SchedulerOptions options)
    : weights_(std::move(weights)), tokenizer_(std::move(tokenizer)), options_(std::move(options)) {
  if (options_.most_running < 1 || options_.chunk < 1) {
    fail(ErrorKind::invalid_argument, "a scheduler needs most_running and chunk of 1 or more, not ",
         options_.most_running, " and ", options_.chunk);
  }
  thread_ = std::thread([this] { run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

std::unique_ptr<Scheduler::Job> Scheduler::job_of(TextRequest& request) const {
  const Session* session = request.from.get();
  const Weights& weights = session ? session->weights() : request.weights ? *request.weights : *weights_;
  if (&weights.base() != &weights_->base())
    fail(ErrorKind::invalid_argument, "the request's session has other weights than the scheduler");
  if (request.on_trace && !weights_->backend().tells_inside()) {
    fail(ErrorKind::unsupported, weights_->backend().name(),
         ": this backend does not tell what fires; use --device cpu");
  }
  request.config.validate();
  request.config.require_possible(weights_->config().vocab_size);
  if (request.config.num_return_sequences != 1) {
    fail(ErrorKind::invalid_argument, "a request is for one text, num_return_sequences 1, not ",
         request.config.num_return_sequences);
  }
  const int64_t position = session ? session->position() : 0;
  const int64_t vocab = weights_->config().vocab_size;
  TextInProgress text(
      *tokenizer_, request.config,
      request.prompt_tokens
          ? text_start(*tokenizer_, request.config, *request.prompt_tokens, request.continued, vocab)
          : text_start(*tokenizer_, request.config, request.prompt, request.continued, position, vocab));
  const int64_t tokens = std::ssize(text.history()) + text.room();
  if (position > kMaxPosition - tokens)
    fail(ErrorKind::invalid_argument, "the text would go past position 2^53: begin with a new session");
  return std::make_unique<Job>(std::move(request), std::move(text));
}

std::optional<Scheduler::Ticket> Scheduler::submit(TextRequest&& request) {
  const auto is_full = [this] { return closed_ || taken_ >= options_.most_running + options_.most_queued; };
  {
    const std::lock_guard lock(mutex_);
    if (is_full()) return std::nullopt;
  }
  std::unique_ptr<Job> job = job_of(request);
  const std::lock_guard lock(mutex_);
  if (is_full()) {
    request = std::move(job->request);
    return std::nullopt;
  }
  job->id = ++last_id_;
  Ticket ticket{job->id, PendingText(job->promise.get_future())};
  ++taken_;
  jobs_[job->id] = job.get();
  queue_.push_back(std::move(job));
  work_.notify_one();
  return ticket;
}

void Scheduler::cancel(Id id) {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  if (found != jobs_.end()) found->second->cancelled = true;
}

void Scheduler::drain() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  idle_.wait(lock, [this] { return jobs_.empty(); });
}

SchedulerStatus Scheduler::status() const {
  const std::lock_guard lock(mutex_);
  SchedulerStatus status = status_;
  status.queued = queue_.size();
  return status;
}

void Scheduler::run() {
  while (admit()) {
    take_prepared();
    read_chunks();
    write_tokens();
    settle();
  }
}

/// Waits for work and begins what there is room for. False when all texts have been cancelled and nothing
/// more comes.
bool Scheduler::admit() {
  std::vector<Job*> begun;
  {
    std::unique_lock lock(mutex_);
    work_.wait(lock, [this] {
      const bool has_room = running_.size() < options_.most_running;
      return std::any_of(running_.begin(), running_.end(),
                         [](const auto& job) { return job->is_prepared; }) ||
             (has_room && (stopping_ || !queue_.empty()));
    });
    if (stopping_) {
      for (const auto& [id, job] : jobs_) job->cancelled = true;
    }
    for (std::unique_ptr<Job>& job : queue_) {
      if (running_.size() >= options_.most_running && !job->cancelled) continue;
      begun.push_back(job.get());
      running_.push_back(std::move(job));
    }
    std::erase(queue_, nullptr);
    if (stopping_ && running_.empty()) return false;
  }
  for (Job* job : begun) guarded({&job, 1}, [&] { begin(*job); });
  return true;
}

/// No exception leaves: it ends the texts of those jobs.
template <class Action>
void Scheduler::guarded(std::span<Job* const> jobs, const Action& action) {
  const auto fail_all = [&](ErrorKind kind, const char* message) {
    for (Job* job : jobs) job->failure = PendingText::Failure{kind, message};
  };
  try {
    action();
  } catch (const Error& error) {
    fail_all(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    fail_all(ErrorKind::out_of_memory, "there is no memory left for this text");
  } catch (const std::exception& error) {
    fail_all(ErrorKind::cancelled, error.what());
  } catch (...) {
    fail_all(ErrorKind::cancelled, "a callback threw something that is no std::exception");
  }
}

/// One whose memory a text has had already, where there is such: new memory is slow to touch.
std::unique_ptr<Session> Scheduler::new_session(const std::shared_ptr<const Weights>& weights,
                                                SessionOptions options) {
  if (spare_.empty()) return std::make_unique<Session>(weights, std::move(options));
  std::unique_ptr<Session> session = std::move(spare_.back());
  spare_.pop_back();
  session->reset(weights, std::move(options));
  return session;
}

/// A state is copied, or looked up in files, on a thread of its own: the other texts go on meanwhile.
void Scheduler::begin(Job& job) {
  if (job.cancelled) return;
  const TextRequest& request = job.request;
  job.session = request.from
                    ? new_session(request.from->shared_weights(), request.from->options())
                    : new_session(request.weights ? request.weights : weights_,
                                  {.horizon = request.config.horizon, .state_dtype = options_.state_dtype});
  const bool has_points = std::ssize(job.text.history()) > options_.chunk;
  if (!request.from && (!options_.prefix_cache || job.wants_rows() || !has_points)) return;
  const auto prepare_and_tell = [this, &job] {
    const auto tell = [this, &job](void*) {
      const std::lock_guard lock(mutex_);
      job.is_prepared = true;
      work_.notify_one();
    };
    const std::unique_ptr<void, decltype(tell)> at_end(this, tell);
    prepare(job);
  };
  job.is_prepared = false;
  try {
    job.preparation = std::async(std::launch::async, prepare_and_tell);
  } catch (const std::system_error&) {  // there is no thread to be had
    job.preparation = std::async(std::launch::deferred, [this, &job] { prepare(job); });
    job.is_prepared = true;
  }
}

void Scheduler::prepare(Job& job) const {
  if (const std::shared_ptr<const Session> from = std::move(job.request.from)) {
    job.session->copy(*from);
    take_horizon(*job.session, job.request.config);
  } else {
    job.beginning = options_.prefix_cache->begin(*job.session, job.text.history());
  }
}

/// Goes on with those that have been prepared.
void Scheduler::take_prepared() {
  std::vector<Job*> prepared;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& job : running_) {
      if (job->preparation.valid() && job->is_prepared) prepared.push_back(job.get());
    }
  }
  for (Job* job : prepared) {
    guarded({&job, 1}, [&] {
      job->preparation.get();
      if (job->beginning) take_beginning(*job);
    });
  }
}

void Scheduler::take_beginning(Job& job) {
  job.plan = options_.prefix_cache->plan(*job.session, *job.beginning);
  job.beginning.reset();
  job.cached = job.session->position();
  job.read = static_cast<size_t>(job.cached);
  const std::lock_guard lock(mutex_);
  status_.tokens_cached += job.read;
}

/// What is read next of a prompt: up to a multiple of the chunk.
std::span<const int32_t> Scheduler::next_chunk(const Job& job) const {
  const std::span<const int32_t> prompt(job.text.history());
  const auto in_chunk = static_cast<size_t>(options_.chunk - job.session->position() % options_.chunk);
  return prompt.subspan(job.read, std::min(in_chunk, prompt.size() - job.read));
}

/// The next chunk of the prompt whose turn it is, and of those after it that end within as many tokens as a
/// chunk has; a single token is read alone, as decode's sums are not prefill's. After its last one comes a
/// text's first token.
void Scheduler::read_chunks() {
  std::vector<Job*> readers, ending;
  for (const auto& job : running_) {
    if (job->is_reading() && !job->cancelled && !job->preparation.valid()) readers.push_back(job.get());
  }
  if (readers.empty()) return;
  std::rotate(readers.begin(), readers.begin() + static_cast<std::ptrdiff_t>(next_reader_ % readers.size()),
              readers.end());
  auto room = static_cast<size_t>(options_.chunk);
  for (Job* job : readers) {
    const size_t count = next_chunk(*job).size();
    const bool ends = job->read + count == job->text.history().size() && job->text.room() > 0;
    if (!ends || job->wants_rows() || count > room || count == 1) break;
    ending.push_back(job);
    room -= count;
  }
  next_reader_ += std::max<size_t>(1, ending.size());
  if (ending.empty()) return read_chunk(*readers.front());
  std::vector<std::span<const int32_t>> chunks;
  for (Job* job : ending) chunks.push_back(next_chunk(*job));
  guarded(ending, [&] {
    for (size_t i = 0; i < ending.size(); ++i) ending[i]->read += chunks[i].size();
    ReadOptions options;
    options.chunk = options_.chunk;
    draw(ending, chunks, options);
    for (size_t i = 0; i < ending.size(); ++i) note_read(*ending[i], chunks[i].size());
  });
}

/// A chunk by itself.
void Scheduler::read_chunk(Job& job) {
  Job* one = &job;
  guarded({&one, 1}, [&] {
    const std::span<const int32_t> chunk = next_chunk(job);
    ReadOptions options;
    options.chunk = options_.chunk;
    job.read += chunk.size();
    const bool ends = job.read == job.text.history().size(), draws = ends && job.text.room() > 0;
    if (draws && !job.wants_rows()) {
      draw({&one, 1}, {&chunk, 1}, options);
    } else {
      read_rows(job, chunk, options);
    }
    if (ends && !draws) job.text.finish(FinishReason::length);
    note_read(job, chunk.size());
  });
}

void Scheduler::note_read(Job& job, size_t tokens) {
  if (options_.prefix_cache) options_.prefix_cache->passed(job.plan, *job.session);
  const std::lock_guard lock(mutex_);
  status_.tokens_read += tokens;
}

/// Reads a chunk of a prompt and gives its rows, where they are wanted; draws what comes after the last.
void Scheduler::read_rows(Job& job, std::span<const int32_t> chunk, const ReadOptions& options) {
  const Config& config = weights_->config();
  const auto vocab = static_cast<size_t>(config.vocab_size);
  const bool draws = job.read == job.text.history().size() && job.text.room() > 0;
  const size_t rows = job.request.prompt_logits ? chunk.size() : draws ? 1 : 0;
  std::vector<float> logits(rows * vocab);
  std::vector<float> x(job.request.prompt_x ? chunk.size() * static_cast<size_t>(config.n_embd) : 0);
  const SessionRead read{job.session.get(), chunk, logits, x};
  read_batch({&read, 1}, options);
  if (job.request.on_prompt)
    job.request.on_prompt(
        {chunk, job.request.prompt_logits ? std::span<const float>(logits) : std::span<const float>(), x});
  if (!draws) return;
  const std::span<const float> last = std::span<const float>(logits).last(vocab);
  emit(job, Sampler().draw(job.text.next_draw(), last), last);
  const std::lock_guard lock(mutex_);
  ++status_.tokens_drawn;
}

/// A token of every text that is writing.
void Scheduler::write_tokens() {
  std::vector<Job*> writers;
  std::vector<std::span<const int32_t>> newest;
  for (const auto& job : running_) {
    if (!job->is_writing() || job->cancelled) continue;
    writers.push_back(job.get());
    newest.push_back(std::span(job->text.history()).last(1));
  }
  if (writers.empty()) return;
  ReadOptions options;
  options.form = Form::recurrent;
  options.activity = &activity_;
  guarded(writers, [&] { write_traced(writers, newest, options); });
  const std::lock_guard lock(mutex_);
  ++status_.batches;
  status_.tokens_batched += writers.size();
  status_.activity = activity_;
}

/// As draw, and tells those who want to know what fired.
void Scheduler::write_traced(std::span<Job* const> jobs, std::span<const std::span<const int32_t>> tokens,
                             ReadOptions options) {
  if (std::none_of(jobs.begin(), jobs.end(), [](const Job* job) { return job->request.on_trace; }))
    return draw(jobs, tokens, options);
  std::vector<TokenTrace> traces(jobs.size());
  std::vector<TokenTrace*> wanted;
  for (size_t i = 0; i < jobs.size(); ++i) wanted.push_back(jobs[i]->request.on_trace ? &traces[i] : nullptr);
  options.traces = wanted;
  draw(jobs, tokens, options);
}

/// Reads tokens[i] into the session of jobs[i], and draws the token that comes next.
void Scheduler::draw(std::span<Job* const> jobs, std::span<const std::span<const int32_t>> tokens,
                     const ReadOptions& read) {
  std::vector<Session*> sessions;
  std::vector<Draw> draws;
  bool here = false;  // drawn from logits, not where those are: a draw with banned tokens may fail, alone
  for (Job* job : jobs) {
    sessions.push_back(job->session.get());
    draws.push_back(job->text.next_draw());
    here = here || job->request.on_token || !draws.back().banned.empty();
  }
  ReadOptions options = read;
  if (!here) options.draws = draws;
  const std::vector<float> logits = read_batch(sessions, tokens, options);
  const size_t vocab = logits.size() / jobs.size();
  Sampler sampler;
  for (size_t i = 0; i < jobs.size(); ++i) {
    guarded({&jobs[i], 1}, [&] {
      if (jobs[i]->request.on_trace && !options.traces.empty()) jobs[i]->request.on_trace(*options.traces[i]);
      const std::span<const float> row = std::span(logits).subspan(i * vocab, vocab);
      const int32_t token = here ? sampler.draw(draws[i], row) : draws[i].token;
      emit(*jobs[i], token, row);
    });
  }
  const std::lock_guard lock(mutex_);
  status_.tokens_drawn += jobs.size();
}

void Scheduler::emit(Job& job, int32_t token, std::span<const float> logits) {
  job.text.take(token);
  const std::string text = job.text.emit();
  bool goes_on = !job.request.on_token || job.request.on_token(token, logits);
  goes_on = (!job.request.on_text || job.request.on_text(text)) && goes_on;
  if (!goes_on) job.cancelled = true;
}

/// Gives results, and forgets the texts that have ended.
void Scheduler::settle() {
  Jobs ended;
  for (std::unique_ptr<Job>& job : running_) {
    if ((job->ended() || job->cancelled) && !job->preparation.valid()) ended.push_back(std::move(job));
  }
  std::erase(running_, nullptr);
  const auto count = [this](auto is) {
    return static_cast<size_t>(
        std::count_if(running_.begin(), running_.end(), [&](const auto& job) { return is(*job); }));
  };
  {
    const std::lock_guard lock(mutex_);
    taken_ -= ended.size();
    status_.ended += ended.size();
    status_.reading = count([](const Job& job) { return job.is_reading(); });
    status_.writing = count([](const Job& job) { return job.is_writing(); });
  }
  if (ended.empty()) return;
  for (const std::unique_ptr<Job>& job : ended) give_result(*job);
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<Job>& job : ended) jobs_.erase(job->id);
  idle_.notify_all();
}

void Scheduler::give_result(Job& job) {
  if (!job.text.finished()) job.text.finish(FinishReason::cancelled);
  if (!job.request.wants_session && job.session && spare_.size() + running_.size() < options_.most_running)
    spare_.push_back(std::move(job.session));
  if (!job.request.wants_session) job.session.reset();
  job.promise.set_value(
      {{std::move(job.text).result(), std::move(job.session), job.cached}, std::move(job.failure)});
  if (job.request.on_end) job.request.on_end();
}

}  // namespace bdh
