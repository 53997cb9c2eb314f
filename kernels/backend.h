// The contract between the model and the hardware: BDH's own operations, so that each backend may fuse as it
// likes.
//
// Symbols (arXiv 2509.26507): T tokens, L layers, D width, H heads, N neurons per head, V vocabulary.
// Every layer uses the same parameters:
//     x = norm(embed[token])                            norm: LayerNorm over D, eps 1e-5, no parameters
//     L times:
//         n = relu(x E_h)                   (H, T, N)
//         r = rotate(n)                     (H, T, N)   pair (2i, 2i+1) turned by 2 pi frac(t f_i)
//         a = tril(r r^T, -1) x             (H, T, D)   strictly causal, no softmax, no scale
//         v = relu(norm(a) Ev_h)            (H, T, N)
//         g = n * v                         (H, T, N)
//         x = norm(x + norm(concat_h(g) decoder))
//     logits = x lm_head
// The recurrent form of a: a_t = r_t S, then S += r_t^T x_t, with a state S (H, N, D) for every layer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "bdh/base/tensor.h"

namespace bdh {

struct Dimensions {
  int64_t layers = 0;   // L
  int64_t width = 0;    // D
  int64_t heads = 0;    // H
  int64_t neurons = 0;  // N, per head
  int64_t vocab = 0;    // V
};

/// The parameters as a state_dict holds them. All but freqs share one dtype of f32, bf16, f16 or f64.
struct Parameters {
  Dimensions dims;
  Tensor embed;      // (V, D)
  Tensor encoder;    // (H, D, N)
  Tensor encoder_v;  // (H, D, N)
  Tensor decoder;    // (H*N, D)
  Tensor lm_head;    // (D, V)
  Tensor freqs;      // (N) float32, turns per token
};

/// Parameters as a backend wants them: neuron-major, in the dtype asked for. Immutable; shared by sessions
/// and threads.
struct Packed {
  Dimensions dims;
  DType dtype = DType::f32;
  size_t bytes = 0;  // memory the packed copies occupy, mapped parts not counted
  virtual ~Packed() = default;
};

/// What one sequence remembers: its position and, for every layer, the attention state S.
class State {
 public:
  virtual ~State() = default;
  virtual int64_t position() const = 0;
  virtual std::unique_ptr<State> clone() const = 0;
  /// S as (L, H, N, D) float32 on the CPU, every token read so far included.
  virtual Tensor save() = 0;
  /// Replaces S and the position; at position 0 S is zero, whatever `s` holds. Throws Error(invalid_argument)
  /// for a wrong shape or dtype.
  virtual void restore(const Tensor& s, int64_t position) = 0;
  /// Memory a state occupies.
  virtual size_t bytes() const = 0;
};

/// Memory that a model needs on a backend, in bytes.
struct MemoryNeed {
  size_t weights = 0;  // packed parameters, those that stay in the mapped file included
  size_t session = 0;  // one sequence's state, however long the text
  size_t working = 0;  // while tokens are read
};

/// How active one layer was, summed over the tokens read and all heads. A density is count / (tokens * H *
/// N).
struct LayerActivity {
  int64_t tokens = 0;
  int64_t n = 0;         // non-zero n
  int64_t pairs = 0;     // rotation pairs with a non-zero n; a density of these is over H * N / 2
  int64_t v = 0;         // non-zero v, over the tokens whose v was computed whole
  int64_t v_tokens = 0;  // those tokens: decoding computes v only where n is active, and does not count here
  int64_t g = 0;         // non-zero g
};

/// How the token after a text is to be drawn from its logits; bdh/text/sampler.h defines the draw.
struct Draw {
  bool greedy = false;  // the first largest logit; the rest is not looked at
  float temperature = 1.0f;
  int64_t top_k = 0;  // 0: all
  float top_p = 1.0f;
  int64_t vocab = 0;   // tokens below this may be drawn
  double u = 0;        // in [0, 1)
  int32_t token = -1;  // set by a backend that has drawn
};

/// Tokens of one sequence to be read together.
struct Segment {
  State* state = nullptr;  // read from and added to; null: position 0, nothing remembered and nothing kept
  std::span<const int32_t> tokens;  // each in [0, V)
  float* logits = nullptr;          // null, (V) for the last token, or (T, V) for all of them
  bool all_logits = false;
  /// With logits for the last token: a backend may draw here what comes next. It then sets draw->token, and
  /// may leave `logits` as they were.
  Draw* draw = nullptr;
};

/// One kind of hardware. Calls may come from several threads; one read runs at a time.
/// The same calls give the same bits, whatever the number of threads.
class Backend {
 public:
  virtual ~Backend() = default;
  /// "cpu, avx512, 2 threads"
  virtual std::string name() const = 0;
  /// How many tokens of one sequence are best read at once.
  virtual int64_t chunk_tokens() const = 0;
  /// dtype: f32, bf16 or f16. Throws Error(out_of_memory).
  virtual std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) = 0;
  virtual std::unique_ptr<State> new_state(const Packed& packed) = 0;
  /// What a model of those sizes needs; working memory is that of reading `tokens` as one chunk.
  virtual MemoryNeed memory(const Dimensions& dims, DType dtype, int64_t tokens) const = 0;

  /// Reads each segment as one chunk: parallel inside, states carried across. Segments may differ in length.
  /// activity: L entries that are added to, or empty.
  virtual void read_chunk(const Packed& packed, std::span<const Segment> segments,
                          std::span<LayerActivity> activity) = 0;
  /// Reads one token of each segment (exactly one each, with a state): the recurrent form, inactive neurons
  /// skipped.
  virtual void read_token(const Packed& packed, std::span<const Segment> segments,
                          std::span<LayerActivity> activity) = 0;
};

}  // namespace bdh
