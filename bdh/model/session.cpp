// Sessions: checks what is asked, and cuts it into what a backend reads at once.
#include "bdh/model/session.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/model/horizon.h"

namespace bdh {

namespace {

void check_tokens(std::span<const int32_t> tokens, int64_t vocab) {
  if (tokens.empty()) fail(ErrorKind::invalid_argument, "tokens: there are none; a read takes at least one");
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab) {
      fail(ErrorKind::invalid_argument, "tokens[", i, "] is ", tokens[i], "; this model's tokens lie in [0, ",
           vocab, ")");
    }
  }
}

void check_horizon(std::span<const float> horizon, int64_t heads) {
  for (const float tokens : horizon) {
    if (!(tokens > 0))
      fail(ErrorKind::invalid_argument, "horizon must be a positive number of tokens, not ", tokens);
  }
  if (horizon.size() > 1 && static_cast<int64_t>(horizon.size()) != heads) {
    fail(ErrorKind::invalid_argument, "horizon must be one number, or one for each of the ", heads,
         " heads, not ", horizon.size());
  }
}

void check_position(const Segment& segment) {
  const int64_t position = segment.state ? segment.state->position() : 0,
                count = static_cast<int64_t>(segment.tokens.size());
  if (position > kMaxPosition - count) {
    fail(ErrorKind::invalid_argument, count, " tokens after position ", position,
         " are too many: positions end at 2^53; reset the session");
  }
}

void check_room(const Weights& weights, const SessionOptions& options) {
  if (!options.max_bytes) return;
  const size_t need = most_session_bytes(weights, options.state_dtype);
  if (need <= *options.max_bytes) return;
  fail(ErrorKind::out_of_memory, "a session of this model takes ", format_bytes(need), ", more than the ",
       format_bytes(*options.max_bytes), " of max_bytes; allow more, or use a smaller model");
}

std::vector<float> by_head(const std::vector<float>& horizon, int64_t heads) {
  return horizon.size() == 1 ? std::vector<float>(static_cast<size_t>(heads), horizon.front()) : horizon;
}

std::span<LayerActivity> activity_of(const ReadOptions& options, int64_t layers) {
  if (!options.activity) return {};
  options.activity->resize(static_cast<size_t>(layers));
  return *options.activity;
}

// Tokens of one sequence read at once, at most.
int64_t chunk_of(const ReadOptions& options, const Backend& backend, int64_t longest) {
  if (options.form == Form::recurrent) return 1;
  if (options.form == Form::parallel) return longest;
  return options.chunk.value_or(backend.prefill_tokens());
}

// Tokens [begin, begin + count) of a segment, with what is wanted of them.
Segment part_of(const Segment& whole, int64_t begin, int64_t count, const Config& config) {
  Segment part = whole;
  const bool last = begin + count == static_cast<int64_t>(whole.tokens.size());
  part.tokens = whole.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
  if (whole.all_logits) part.logits += begin * config.vocab_size;
  if (whole.x) part.x += begin * config.n_embd;
  if (!last && !whole.all_logits) part.logits = nullptr;
  if (!last) {
    part.draw = nullptr;
    part.trace = nullptr;
  }
  return part;
}

int64_t tokens_in(std::span<const Segment> segments) {
  int64_t tokens = 0;
  for (const Segment& segment : segments) tokens += static_cast<int64_t>(segment.tokens.size());
  return tokens;
}

// One sequence's few tokens, where the caller leaves open how they are read.
bool are_few(std::span<const Segment> parts, const ReadOptions& options, const Backend& backend) {
  const Segment& part = parts.front();
  return options.form == Form::chunked && !options.chunk && parts.size() == 1 && part.state &&
         static_cast<int64_t>(part.tokens.size()) <= backend.few_tokens(part.state->position());
}

void read_one_by_one(const Weights& weights, const Segment& tokens, std::span<LayerActivity> activity) {
  for (int64_t i = 0; i < static_cast<int64_t>(tokens.tokens.size()); ++i) {
    const Segment token = part_of(tokens, i, 1, weights.config());
    weights.backend().read(weights.packed(), {{&token, 1}, activity});
  }
}

void read_segments(const Weights& weights, std::span<const Segment> segments, const ReadOptions& options) {
  if (options.chunk.value_or(1) < 1)
    fail(ErrorKind::invalid_argument, "chunk: ", *options.chunk, " is less than 1");
  int64_t longest = 0, done = 0;
  for (const Segment& segment : segments) {
    check_tokens(segment.tokens, weights.config().vocab_size);
    check_position(segment);
    longest = std::max(longest, static_cast<int64_t>(segment.tokens.size()));
  }
  const int64_t total = tokens_in(segments), chunk = chunk_of(options, weights.backend(), longest);
  const std::span<LayerActivity> activity = activity_of(options, weights.config().n_layer);
  std::vector<Segment> parts;
  for (int64_t begin = 0; begin < longest; begin += std::min(chunk, longest - begin)) {
    parts.clear();
    for (const Segment& segment : segments) {
      const int64_t left = static_cast<int64_t>(segment.tokens.size()) - begin;
      if (left > 0) parts.push_back(part_of(segment, begin, std::min(chunk, left), weights.config()));
    }
    if (are_few(parts, options, weights.backend())) {
      read_one_by_one(weights, parts.front(), activity);
    } else {
      weights.backend().read(weights.packed(), {parts, activity});
    }
    done += tokens_in(parts);
    if (options.progress && !options.progress(done, total) && done < total) {
      fail(ErrorKind::cancelled, "stopped after reading ", done, " of ", total, " tokens");
    }
  }
}

void require_inside(const Weights& weights) {
  if (!weights.backend().tells_inside()) {
    fail(ErrorKind::unsupported, weights.backend().name(),
         ": this backend tells neither x nor what fires; use --device cpu");
  }
}

void check_x(const SessionRead& read, const Weights& weights) {
  if (read.x.empty()) return;
  const auto width = static_cast<size_t>(weights.config().n_embd);
  if (read.x.size() != read.tokens.size() * width)
    fail(ErrorKind::invalid_argument, "read_batch: room for ", read.x.size(), " numbers of x; ",
         read.tokens.size(), " tokens have ", width, " each");
  require_inside(weights);
}

void check_batch(std::span<Session* const> sessions) {
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (&sessions[i]->weights().base() != &sessions.front()->weights().base())
      fail(ErrorKind::invalid_argument, "read_batch: session ", i, " has other weights");
    const auto before = sessions.first(i);
    if (std::find(before.begin(), before.end(), sessions[i]) != before.end())
      fail(ErrorKind::invalid_argument, "read_batch: session ", i, " is in the batch twice");
  }
}

}  // namespace

Session::Session(std::shared_ptr<const Weights> weights, SessionOptions options)
    : weights_(std::move(weights)), options_(std::move(options)) {
  check_horizon(options_.horizon, weights_->config().n_head);
  check_room(*weights_, options_);
  state_ = new_state();
}

std::unique_ptr<State> Session::new_state() const {
  const std::vector<float> horizons = by_head(options_.horizon, weights_->config().n_head);
  return weights_->backend().new_state(weights_->packed(), {horizons, options_.state_dtype});
}

Segment Session::segment_of(std::span<const int32_t> tokens) const {
  return {.state = state_.get(), .tokens = tokens, .adapter = weights_->adapter()};
}

std::vector<float> Session::read(std::span<const int32_t> tokens, const ReadOptions& options) {
  std::vector<float> logits(static_cast<size_t>(weights_->config().vocab_size));
  Segment segment = segment_of(tokens);
  segment.logits = logits.data();
  read_segments(*weights_, {&segment, 1}, options);
  know(tokens);
  return logits;
}

std::vector<float> Session::read_all(std::span<const int32_t> tokens, const ReadOptions& options) {
  std::vector<float> logits(tokens.size() * static_cast<size_t>(weights_->config().vocab_size));
  Segment segment = segment_of(tokens);
  segment.logits = logits.data();
  segment.all_logits = true;
  read_segments(*weights_, {&segment, 1}, options);
  know(tokens);
  return logits;
}

std::vector<float> Session::read_provisional(std::span<const int32_t> tokens,
                                             std::vector<LayerActivity>* activity) {
  const int64_t vocab = weights_->config().vocab_size;
  std::vector<float> logits(tokens.size() * static_cast<size_t>(vocab));
  Segment segment = segment_of(tokens);
  segment.logits = logits.data();
  segment.all_logits = true;
  check_tokens(tokens, vocab);
  check_position(segment);
  ReadOptions options;
  options.activity = activity;
  weights_->backend().read(weights_->packed(), {.segments = {&segment, 1},
                                                .activity = activity_of(options, weights_->config().n_layer),
                                                .provisional = true});
  provisional_.assign(tokens.begin(), tokens.end());
  return logits;
}

void Session::accept(int64_t tokens) {
  weights_->backend().accept(*state_, tokens);
  know(std::span(provisional_).first(static_cast<size_t>(tokens)));
}

// Where a read was cut short, known_ and the position part, and the tokens count as unknown.
void Session::know(std::span<const int32_t> tokens) {
  const size_t room = kKnownTokens + 1 - std::min(known_.size(), kKnownTokens + 1);
  const auto some = tokens.first(std::min(room, tokens.size()));
  known_.insert(known_.end(), some.begin(), some.end());
}

Session Session::clone() const {
  Session made(weights_, options_);
  made.copy(*this);
  return made;
}

void Session::copy(const Session& other) {
  if (!may_be_of(*other.weights_, other.options_)) {
    *this = other.clone();
    return;
  }
  state_->copy(*other.state_);
  weights_ = other.weights_;
  start_ = other.start_;
  known_ = other.known_;
}

void Session::reset() { start_at(0); }

void Session::start_at(int64_t position) {
  SavedState nothing;
  nothing.position = nothing.base = position;
  state_->restore(nothing);
  known_.clear();
  start_ = position;
}

// Whether its memory may serve a session of these.
bool Session::may_be_of(const Weights& weights, const SessionOptions& options) const {
  return &weights.base() == &weights_->base() && options.horizon == options_.horizon &&
         options.state_dtype == options_.state_dtype;
}

void Session::reset(SessionOptions options) { reset(weights_, std::move(options)); }

void Session::reset(std::shared_ptr<const Weights> weights, SessionOptions options) {
  if (options.max_bytes || !may_be_of(*weights, options)) {
    *this = Session(std::move(weights), std::move(options));
    return;
  }
  weights_ = std::move(weights);
  reset();
}

SavedSession Session::save(DType dtype) const {
  if (dtype != DType::f32 && dtype != DType::bf16)
    fail(ErrorKind::invalid_argument, "a session is saved as F32 or BF16, not ", name_of(dtype));
  SavedSession saved{state_->save(), weights_->hash(), weights_->dtype(), options_.horizon, {}};
  if (saved.state.s.data) saved.state.s = converted(saved.state.s, dtype);
  return saved;
}

SavedSession Session::save(KeptForm form, DType dtype) const {
  const bool known =
      start_ >= 0 && known_.size() <= kKnownTokens && start_ + std::ssize(known_) == position();
  if (form == KeptForm::tokens && !known) {
    fail(ErrorKind::invalid_argument, "a session is kept as its tokens where it read them all itself, ",
         kKnownTokens, " at most; keep this one as its state");
  }
  SavedSession saved = save(dtype);
  if (form == KeptForm::state || !known || known_.empty()) return saved;
  if (form == KeptForm::automatic && weights_->backend().provisional_tokens() == 0) return saved;
  SavedState tokens = state_of_tokens();
  if (form == KeptForm::tokens || bytes_of(tokens) < bytes_of(saved.state)) saved.state = std::move(tokens);
  return saved;
}

SavedState Session::state_of_tokens() const {
  Session again(weights_, options_);
  again.start_at(start_);
  std::vector<KeptTokens> parts;
  for (const int32_t token : known_) {
    again.read({&token, 1});
    parts.push_back(again.state_->last_tokens(1));
  }
  SavedState saved;
  saved.position = saved.base = position();
  saved.tokens = joined(parts);
  return saved;
}

void Session::restore(const SavedSession& saved, const std::string& source) {
  if (!saved.model.empty() && saved.model != weights_->hash()) {
    fail(ErrorKind::bad_file, source, ": saved from another model (", saved.model.substr(0, 12),
         "), not from this one (", weights_->hash().substr(0, 12),
         "); load it with the model it was saved from");
  }
  if (saved.dtype && *saved.dtype != weights_->dtype()) {
    fail(ErrorKind::bad_file, source, ": saved with weights in ", name_of(*saved.dtype), ", these are ",
         weights_->dtype_name(), "; load the model with that dtype (--dtype)");
  }
  const int64_t heads = weights_->config().n_head;
  if (saved.dtype && by_head(saved.horizon, heads) != by_head(options_.horizon, heads)) {
    fail(ErrorKind::bad_file, source, ": saved with horizon ", horizon_text(saved.horizon),
         ", this session has ", horizon_text(options_.horizon), "; give it that one (--horizon)");
  }
  try {
    state_->restore(saved.state);
    known_.clear();
    start_ = saved.state.position == 0 ? 0 : -1;
  } catch (const Error& error) {
    fail(error.kind(), source, ": ", error.what(),
         "; load it with the model it was saved from, or save it again");
  }
}

size_t most_session_bytes(const Weights& weights, DType state_dtype) {
  return weights.backend().memory(weights.config().dimensions(), weights.dtype(), 1, state_dtype).session;
}

std::vector<float> read_batch(std::span<Session* const> sessions,
                              std::span<const std::span<const int32_t>> tokens, const ReadOptions& options) {
  if (sessions.size() != tokens.size()) {
    fail(ErrorKind::invalid_argument, "read_batch: ", sessions.size(), " sessions but ", tokens.size(),
         " token lists");
  }
  if (!options.draws.empty() && options.draws.size() != sessions.size()) {
    fail(ErrorKind::invalid_argument, "read_batch: ", sessions.size(), " sessions but ", options.draws.size(),
         " draws");
  }
  if (sessions.empty()) return {};
  check_batch(sessions);
  const Weights& weights = sessions.front()->weights();
  if (!options.traces.empty()) {
    require_inside(weights);
    if (options.traces.size() != sessions.size())
      fail(ErrorKind::invalid_argument, "read_batch: ", sessions.size(), " sessions but ",
           options.traces.size(), " traces");
  }
  const auto vocab = static_cast<size_t>(weights.config().vocab_size);
  std::vector<float> logits(options.draws.empty() ? sessions.size() * vocab : 0);
  std::vector<Segment> segments;
  for (size_t i = 0; i < sessions.size(); ++i) {
    Segment& segment = segments.emplace_back(sessions[i]->segment_of(tokens[i]));
    if (!options.traces.empty()) segment.trace = options.traces[i];
    if (options.draws.empty()) {
      segment.logits = logits.data() + i * vocab;
    } else {
      segment.draw = &options.draws[i];
    }
  }
  read_segments(weights, segments, options);
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->know(tokens[i]);
  return logits;
}

void read_batch(std::span<const SessionRead> reads, const ReadOptions& options) {
  if (reads.empty()) return;
  std::vector<Session*> sessions;
  for (const SessionRead& read : reads) sessions.push_back(read.session);
  check_batch(sessions);
  const Weights& weights = sessions.front()->weights();
  const auto vocab = static_cast<size_t>(weights.config().vocab_size);
  std::vector<Segment> segments;
  for (const SessionRead& read : reads) {
    const size_t rows = read.logits.size() / vocab;
    if (rows * vocab != read.logits.size() || (rows > 1 && rows != read.tokens.size())) {
      fail(ErrorKind::invalid_argument, "read_batch: room for ", read.logits.size(), " logits; ",
           read.tokens.size(), " tokens have ", vocab, " for the last, or as many for each");
    }
    check_x(read, weights);
    Segment& segment = segments.emplace_back(read.session->segment_of(read.tokens));
    segment.logits = rows > 0 ? read.logits.data() : nullptr;
    segment.all_logits = rows > 1;
    segment.x = read.x.empty() ? nullptr : read.x.data();
  }
  read_segments(weights, segments, options);
  for (const SessionRead& read : reads) read.session->know(read.tokens);
}

std::vector<float> forward(const Weights& weights, std::span<const std::span<const int32_t>> sequences,
                           std::vector<LayerActivity>* activity) {
  const auto vocab = static_cast<size_t>(weights.config().vocab_size);
  std::vector<Segment> segments;
  for (const auto& tokens : sequences)
    segments.push_back({.tokens = tokens, .all_logits = true, .adapter = weights.adapter()});
  std::vector<float> logits(static_cast<size_t>(tokens_in(segments)) * vocab);
  float* out = logits.data();
  for (Segment& segment : segments) {
    segment.logits = out;
    out += segment.tokens.size() * vocab;
  }
  ReadOptions options;
  options.form = Form::parallel;
  options.activity = activity;
  read_segments(weights, segments, options);
  return logits;
}

}  // namespace bdh
