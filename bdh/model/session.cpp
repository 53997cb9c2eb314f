// Sessions: checks what is asked, cuts it into the chunks and tokens that a backend reads, and saves states.
#include "bdh/model/session.h"

#include <algorithm>
#include <charconv>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"

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

std::span<LayerActivity> activity_of(const ReadOptions& options, int64_t layers) {
  if (!options.activity) return {};
  options.activity->resize(static_cast<size_t>(layers));
  return *options.activity;
}

// Tokens read at once, at most.
int64_t step_of(const ReadOptions& options, const Backend& backend, int64_t longest) {
  if (options.form == Form::recurrent) return 1;
  if (options.form == Form::parallel) return longest;
  return options.chunk.value_or(backend.chunk_tokens());
}

void read_piece(const Weights& weights, std::span<const Segment> segments,
                std::span<LayerActivity> activity) {
  const bool single =
      std::all_of(segments.begin(), segments.end(), [](const Segment& s) { return s.tokens.size() == 1; });
  if (single) {
    weights.backend().read_token(weights.packed(), segments, activity);
  } else {
    weights.backend().read_chunk(weights.packed(), segments, activity);
  }
}

// One sequence of a read, and where its logits go.
struct Reading {
  State* state;
  std::span<const int32_t> tokens;
  float* logits;
  bool all_logits;
  Draw* draw = nullptr;
};

// The segment of a reading's tokens [begin, begin + count); logits only where they were asked for.
Segment piece_of(const Reading& reading, int64_t begin, int64_t count, int64_t vocab) {
  const bool last = begin + count == static_cast<int64_t>(reading.tokens.size());
  float* logits = reading.all_logits ? reading.logits + begin * vocab : last ? reading.logits : nullptr;
  return {reading.state, reading.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
          logits, reading.all_logits, last ? reading.draw : nullptr};
}

void read_all_pieces(const Weights& weights, std::span<const Reading> readings, const ReadOptions& options) {
  if (options.chunk.value_or(1) < 1)
    fail(ErrorKind::invalid_argument, "chunk: ", *options.chunk, " is less than 1");
  int64_t longest = 0, total = 0, done = 0;
  for (const Reading& reading : readings) {
    check_tokens(reading.tokens, weights.config().vocab_size);
    longest = std::max(longest, static_cast<int64_t>(reading.tokens.size()));
    total += static_cast<int64_t>(reading.tokens.size());
  }
  const std::span<LayerActivity> activity = activity_of(options, weights.config().n_layer);
  const int64_t step = step_of(options, weights.backend(), longest);
  std::vector<Segment> segments;
  for (int64_t begin = 0; begin < longest; begin += std::min(step, longest - begin)) {
    segments.clear();
    for (const Reading& reading : readings) {
      const int64_t left = static_cast<int64_t>(reading.tokens.size()) - begin;
      if (left > 0)
        segments.push_back(piece_of(reading, begin, std::min(step, left), weights.config().vocab_size));
    }
    read_piece(weights, segments, activity);
    for (const Segment& segment : segments) done += static_cast<int64_t>(segment.tokens.size());
    if (options.progress && !options.progress(done, total) && done < total) {
      fail(ErrorKind::cancelled, "stopped after reading ", done, " of ", total, " tokens");
    }
  }
}

constexpr const char* kStateTensor = "state";
constexpr const char* kPositionKey = "position";

int64_t saved_position(const SafetensorsFile& file) {
  const auto found = file.metadata().find(kPositionKey);
  int64_t position = -1;
  if (found != file.metadata().end()) {
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), position);
    if (error != std::errc() || end != text.data() + text.size()) position = -1;
  }
  if (position < 0)
    fail(ErrorKind::bad_file, file.path().string(), ": no saved session: its metadata lacks a position");
  return position;
}

}  // namespace

Session::Session(std::shared_ptr<const Weights> weights)
    : weights_(std::move(weights)), state_(weights_->backend().new_state(weights_->packed())) {}

std::vector<float> Session::read(std::span<const int32_t> tokens, const ReadOptions& options) {
  std::vector<float> logits(static_cast<size_t>(weights_->config().vocab_size));
  const Reading reading{state_.get(), tokens, logits.data(), false};
  read_all_pieces(*weights_, {&reading, 1}, options);
  return logits;
}

std::vector<float> Session::read_all(std::span<const int32_t> tokens, const ReadOptions& options) {
  std::vector<float> logits(tokens.size() * static_cast<size_t>(weights_->config().vocab_size));
  const Reading reading{state_.get(), tokens, logits.data(), true};
  read_all_pieces(*weights_, {&reading, 1}, options);
  return logits;
}

Session Session::clone() const {
  Session copy(weights_);
  copy.state_ = state_->clone();
  return copy;
}

void Session::reset() { state_ = weights_->backend().new_state(weights_->packed()); }

void Session::save(const std::filesystem::path& path) {
  write_safetensors(path, {{kStateTensor, state_->save()}}, {{kPositionKey, std::to_string(position())}});
}

void Session::restore(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const int64_t position = saved_position(file);
  const Tensor saved = file.tensor(kStateTensor);
  const auto [layers, width, heads, neurons, vocab, sets] = weights_->config().dimensions();
  const Shape expected{layers, heads, neurons, width};
  if (saved.dtype != DType::f32 || saved.shape != expected) {
    fail(ErrorKind::bad_file, path.string(), ": the saved state is ", name_of(saved.dtype), " ",
         to_string(saved.shape), ", this model's is F32 ", to_string(expected),
         "; restore it into the model it was saved from");
  }
  state_->restore(saved, position);
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
  const Weights& weights = sessions.front()->weights();
  const auto vocab = static_cast<size_t>(weights.config().vocab_size);
  std::vector<float> logits(sessions.size() * vocab);
  std::vector<Reading> readings;
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (&sessions[i]->weights() != &weights)
      fail(ErrorKind::invalid_argument, "read_batch: session ", i, " has other weights");
    if (std::find(sessions.begin(), sessions.begin() + static_cast<std::ptrdiff_t>(i), sessions[i]) !=
        sessions.begin() + static_cast<std::ptrdiff_t>(i)) {
      fail(ErrorKind::invalid_argument, "read_batch: session ", i, " is in the batch twice");
    }
    readings.push_back({sessions[i]->state_.get(), tokens[i], logits.data() + i * vocab, false,
                        options.draws.empty() ? nullptr : &options.draws[i]});
  }
  read_all_pieces(weights, readings, options);
  return logits;
}

std::vector<float> forward(const Weights& weights, std::span<const std::span<const int32_t>> sequences,
                           std::vector<LayerActivity>* activity) {
  const auto vocab = static_cast<size_t>(weights.config().vocab_size);
  size_t rows = 0;
  for (const auto& tokens : sequences) {
    check_tokens(tokens, weights.config().vocab_size);
    rows += tokens.size();
  }
  std::vector<float> logits(rows * vocab);
  std::vector<Segment> segments;
  float* out = logits.data();
  for (const auto& tokens : sequences) {
    segments.push_back({nullptr, tokens, out, true});
    out += tokens.size() * vocab;
  }
  ReadOptions options;
  options.activity = activity;
  if (rows > 0)
    weights.backend().read_chunk(weights.packed(), segments, activity_of(options, weights.config().n_layer));
  return logits;
}

}  // namespace bdh
