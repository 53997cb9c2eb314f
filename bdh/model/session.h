// Session: everything that changes while a sequence is read. Its memory is constant, however long the text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bdh/model/weights.h"

namespace bdh {

/// The three exact forms of attention. They are the same function, up to rounding.
enum class Form : uint8_t {
  parallel,   // all tokens of a read as one chunk
  chunked,    // chunks of ReadOptions::chunk tokens, the state carried between them; one token is read
              // recurrently, and few of one sequence where no chunk is given (Backend::few_tokens)
  recurrent,  // token by token
};

struct ReadOptions {
  Form form = Form::chunked;
  std::optional<int64_t> chunk;  // tokens; by default what suits the backend
  /// Called between chunks with the tokens read so far and their number in all; returning false stops the
  /// read with Error(cancelled), the session having read what was reported.
  std::function<bool(int64_t done, int64_t total)> progress;
  /// One for each session, or none: Draw::token receives what comes next. Logits are then not returned.
  std::span<Draw> draws = {};
  /// When set, resized to L entries and added to.
  std::vector<LayerActivity>* activity = nullptr;
  /// One for each session, of which some may be null, or none: what fires while its last token is read, where
  /// that is read recurrently. Throws Error(unsupported) where the backend does not tell.
  std::span<TokenTrace* const> traces = {};
};

struct SessionOptions {
  /// Tokens after which what a token left has fallen to 1/e: one for all heads, or one for each; infinity for
  /// no damping, but exact phases; none for the authors' form (kernels/backend.h). A trained model reads on
  /// past its block where the horizon is about a quarter of it.
  std::vector<float> horizon = {};
  /// What S is kept as: F32, or BF16, half the bytes to keep and to read; S is then rounded each time tokens
  /// are added to it. On the CPU alone. A kept session does not say which it was.
  DType state_dtype = DType::f32;
  /// The most memory the session may occupy (Session::bytes), however long the text; none: as much as it
  /// takes.
  std::optional<size_t> max_bytes = {};
};

/// Where a generated text stands, beside what its session has read.
struct Continuation {
  std::vector<int32_t> unread;   // tokens of the text that the session has not read yet
  std::optional<uint64_t> seed;  // its sampler's
  uint64_t step = 0;             // numbers that the sampler has drawn
};

/// The two exact forms in which a session is kept.
enum class KeptForm : uint8_t {
  state,      // S and the tokens it does not hold yet: one size, the same bits
  tokens,     // what each token left, sparse: smaller for short texts
  automatic,  // the smaller one
};

/// A session that is kept.
struct SavedSession {
  SavedState state;
  std::string model;           // Weights::hash; empty in files of earlier versions
  std::optional<DType> dtype;  // of the weights; none there
  std::vector<float> horizon;  // of SessionOptions
  Continuation text;           // where its text stands: restore leaves it to the caller
};

constexpr size_t kKnownTokens = 4096;

class Session;

/// Tokens for one session of a batch, and the logits that are wanted.
struct SessionRead {
  Session* session = nullptr;
  std::span<const int32_t> tokens;
  std::span<float> logits = {};  // (V) for the last token; (T, V) for each; empty: none are computed
  std::span<float> x = {};       // (T, D): what logits are made of, each row of mean 0 and variance 1
};

/// One sequence. Reads may be mixed freely: chunks, single tokens, any form. Not for concurrent use;
/// different sessions may read from different threads.
class Session {
 public:
  /// Throws Error(invalid_argument) for a horizon that is not above 0, or not one for each head, and
  /// Error(out_of_memory) where it would take more than max_bytes.
  explicit Session(std::shared_ptr<const Weights> weights, SessionOptions options = {});
  Session(Session&&) noexcept = default;
  Session& operator=(Session&&) noexcept = default;

  const Weights& weights() const { return *weights_; }
  const std::shared_ptr<const Weights>& shared_weights() const { return weights_; }
  const SessionOptions& options() const { return options_; }
  /// Tokens read.
  int64_t position() const { return state_->position(); }
  /// Memory this session occupies at most: a short text may take less.
  size_t bytes() const { return state_->bytes(); }

  /// Reads tokens and returns the logits (V) after the last one.
  /// Throws Error(invalid_argument) for no tokens, a token outside [0, V) or a chunk below 1, before anything
  /// is read.
  std::vector<float> read(std::span<const int32_t> tokens, const ReadOptions& options = {});
  /// As read, and returns the logits (T, V) after each token.
  std::vector<float> read_all(std::span<const int32_t> tokens, const ReadOptions& options = {});

  /// Reads tokens, at most backend().provisional_tokens(), of which it is not known yet that the text has
  /// them. Returns the logits (T, V) after each, with the bits of reading it alone, recurrently; accept(n)
  /// then takes the first n, any other call none. Throws Error(invalid_argument), Error(unsupported).
  std::vector<float> read_provisional(std::span<const int32_t> tokens,
                                      std::vector<LayerActivity>* activity = nullptr);
  void accept(int64_t tokens);

  /// An independent copy.
  Session clone() const;
  /// Becomes such a copy of another session: in the memory there is, where it has the same base of weights
  /// and options.
  void copy(const Session& other);
  /// Forgets everything read, in the memory there is; and goes on with other options. Throws as the
  /// constructor.
  void reset();
  void reset(SessionOptions options);
  /// The same with weights of which the base is the same, in memory that may be the same too.
  void reset(std::shared_ptr<const Weights> weights, SessionOptions options);
  /// Forgets everything read; the next token stands at that position, from 0 to kMaxPosition.
  void start_at(int64_t position);
  /// What it has read; session_file.h keeps it. S as `dtype`, float32 or bfloat16, half as large: its numbers
  /// are then off by up to 1/512. Reads the weights for their hash, at the first call.
  SavedSession save(DType dtype = DType::f32) const;
  /// In the form asked for. From its tokens a session goes on within 1e-5 of the largest logit. They are read
  /// again for that, one by one; a session knows its first kKnownTokens, where it read them all itself.
  /// Throws Error(invalid_argument) for tokens that are not known, Error(unsupported) where the backend keeps
  /// none.
  SavedSession save(KeptForm form, DType dtype = DType::f32) const;
  /// Goes on from what was saved, with the bits of a session that was never interrupted where S was saved as
  /// float32 on the same kind of device, else within 1e-5 of the largest logit. `source` names it in errors.
  /// Throws Error(bad_file) for another model's, for other weights' dtype or horizon, and for what is
  /// damaged; the session then is as it was.
  void restore(const SavedSession& saved, const std::string& source = "state");

 private:
  friend std::vector<float> read_batch(std::span<Session* const>, std::span<const std::span<const int32_t>>,
                                       const ReadOptions&);
  friend void read_batch(std::span<const SessionRead>, const ReadOptions&);
  std::unique_ptr<State> new_state() const;
  bool may_be_of(const Weights& weights, const SessionOptions& options) const;
  Segment segment_of(std::span<const int32_t> tokens) const;
  void know(std::span<const int32_t> tokens);
  SavedState state_of_tokens() const;
  std::shared_ptr<const Weights> weights_;
  SessionOptions options_;
  std::unique_ptr<State> state_;
  int64_t start_ = 0;           // where the text began; below 0: not known
  std::vector<int32_t> known_;  // its tokens, up to kKnownTokens and one more
  std::vector<int32_t> provisional_;
};

/// What Session::bytes comes to, however long the text.
size_t most_session_bytes(const Weights& weights, DType state_dtype = DType::f32);

/// Reads tokens[i] into sessions[i], all together; lengths, positions and adapters may differ, the weights
/// below them must be the same. Returns the logits (B, V) after each sequence's last token, or nothing where
/// there are draws.
std::vector<float> read_batch(std::span<Session* const> sessions,
                              std::span<const std::span<const int32_t>> tokens,
                              const ReadOptions& options = {});

/// The same for as many logits and rows of x as each wants; without draws. Throws Error(invalid_argument) for
/// another number of them and Error(unsupported) where the backend gives no x, before anything is read.
void read_batch(std::span<const SessionRead> reads, const ReadOptions& options = {});

/// One parallel pass over independent sequences from position 0, nothing kept: logits (sum of lengths, V).
std::vector<float> forward(const Weights& weights, std::span<const std::span<const int32_t>> sequences,
                           std::vector<LayerActivity>* activity = nullptr);

}  // namespace bdh
