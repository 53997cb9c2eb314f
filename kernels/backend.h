// The contract between the model and the hardware: BDH's own operations, so that each backend may fuse as it
// likes.
//
// Symbols (arXiv 2509.26507): T tokens, L layers, D width, H heads, N neurons per head, V vocabulary.
//     x = norm(embed[token])                            norm: LayerNorm over D, eps 1e-5, no parameters
//     L times:
//         n = relu(x E_h)                   (H, T, N)
//         r = rotate(n)                     (H, T, N)   pair (2i, 2i+1) rotated by 2 pi frac(t f_i)
//         a = tril(r r^T, -1) x             (H, T, D)   strictly causal, no softmax, no scale
//         v = relu(norm(a) Ev_h)            (H, T, N)
//         g = n * v                         (H, T, N)
//         x = norm(x + norm(concat_h(g) decoder))
//     logits = x lm_head
// The recurrent form of a: a_t = r_t S, then S += r_t^T x_t, with a state S (H, N, D) for every layer.
//
// A session may have a horizon h, one for each head: what a token left is worth exp(-distance / h) (eq. 4,
// whose U damps). Then a = (tril(r r^T, -1) * exp(-(t - s) / h)) x, recurrently S = exp(-1 / h) (S + r_t^T
// x_t), and the phase frac(t f_i) is exact; without a horizon t f_i is rounded to float32, as the authors'
// code has it.
//
// One call reads tokens of several sequences; the backend chooses decode (one token each, inactive neurons
// skipped) or prefill (many tokens at once). A sequence may have an adapter (adapter.h) beside the weights,
// another than others in its batch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/tensor.h"
#include "kernels/limits.h"
#include "kernels/sampler.h"
#include "kernels/saved_state.h"

namespace bdh {

struct Adapter;
class Training;
struct TrainingOptions;

struct Dimensions {
  int64_t layers = 0;   // L
  int64_t width = 0;    // D
  int64_t heads = 0;    // H
  int64_t neurons = 0;  // N, per head
  int64_t vocab = 0;    // V
  int64_t sets = 1;     // of layer weights: 1, shared by all layers, or L
};

/// A weight matrix. Without scales its values are the numbers themselves, f32, bf16, f16 or f64. With scales
/// it is quantized, and always rows of D: encoder and encoder_v (H, N, D), decoder (H*N, D), embed and
/// lm_head (V, D), in i8, or with two numbers of 4 bits in each u8, as bdh/model/quantization.h says.
struct Matrix {
  Tensor values;
  Tensor scales;      // f16: one for every `group` numbers of a row
  int64_t group = 0;  // 0: no scales
};

struct Layer {
  Matrix encoder;    // (H, D, N)
  Matrix encoder_v;  // (H, D, N)
  Matrix decoder;    // (H*N, D)
};

/// The parameters of a model; all values share one dtype.
struct Parameters {
  Dimensions dims;
  std::vector<Layer> layers;  // dims.sets of them: layer l uses layers[l % sets]
  Matrix embed;               // (V, D)
  Matrix lm_head;             // (D, V)
  Tensor freqs;               // (N) float32, turns per token
  /// Strided views of rows that lie as bdh/model/packed_layout.h says, to be run where they lie; else all
  /// values and scales are contiguous.
  bool packed = false;
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
  /// Becomes what another one is, of the same backend, sizes and options, in its own memory.
  virtual void copy(const State& other) = 0;
  /// What it remembers, on the CPU.
  virtual SavedState save() const = 0;
  /// What the last `count` tokens left. Throws Error(unsupported) where that is not known any more.
  virtual KeptTokens last_tokens(int64_t count) const = 0;
  /// Goes on from what was saved, by any backend; where this one saved it, with the bits of a sequence that
  /// was never interrupted. At position 0 nothing is remembered. Throws Error(bad_file) as check.
  virtual void restore(const SavedState& saved) = 0;
  /// Memory a state occupies at most.
  virtual size_t bytes() const = 0;
};

/// How a state is kept.
struct StateOptions {
  std::span<const float> horizons;  // tokens, above 0, for each head, infinity for no damping; or none
  DType s = DType::f32;             // or bf16: S takes half the memory, and is rounded where tokens are added
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
  int64_t v_tokens = 0;  // those tokens: decode computes v only where n is active, and does not count here
  int64_t g = 0;         // non-zero g
};

/// A neuron that was active while a token was read.
struct FiredNeuron {
  int32_t neuron;  // in [0, H*N)
  float n, g;      // g is 0 where the gate was shut
};

/// What fired while one token was read, by layer, in order of the neurons.
using TokenTrace = std::vector<std::vector<FiredNeuron>>;

/// Tokens of one sequence, and what is wanted of them.
struct Segment {
  State* state = nullptr;  // read from and added to; null: position 0, nothing remembered and nothing kept
  std::span<const int32_t> tokens;  // at least one, each in [0, V)
  float* logits = nullptr;          // null, (V) for the last token, or (T, V) for all of them
  bool all_logits = false;
  float* x = nullptr;  // null, or (T, D): the rows that logits are made of, where Backend::tells_inside
  TokenTrace* trace = nullptr;  // of a token that is decoded, where Backend::tells_inside; or null
  /// The token after the last: the backend sets draw->token. `logits` may then stay as they were.
  Draw* draw = nullptr;
  const Adapter* adapter = nullptr;  // where Backend::applies_adapters
};

struct Read {
  std::span<const Segment> segments;       // lengths may differ
  std::span<LayerActivity> activity = {};  // L entries that are added to, or none
  /// Up to kMostProvisional tokens of each segment are read, each with the bits of reading it alone, but none
  /// is added to its state yet: Backend::accept takes them.
  bool provisional = false;
};

/// One kind of hardware. Calls may come from several threads; one read runs at a time.
/// The same calls give the same bits, whatever the number of threads.
class Backend {
 public:
  virtual ~Backend() = default;
  /// "cpu, avx512, 2 threads"
  virtual std::string name() const = 0;
  /// How many tokens can be read provisionally; 0: none.
  virtual int64_t provisional_tokens() const { return 0; }
  /// Whether Segment::x and Segment::trace may be asked for.
  virtual bool tells_inside() const { return false; }
  /// Whether Segment::adapter may be given.
  virtual bool applies_adapters() const { return false; }
  /// How many tokens of one sequence are best read at once.
  virtual int64_t prefill_tokens() const = 0;
  /// Up to how many tokens of one sequence at `position` are read sooner one by one than at once.
  virtual int64_t few_tokens(int64_t /*position*/) const { return 1; }
  /// What a model of those sizes needs, in f32, bf16, f16, i8 or (4 bits) u8, with S as that dtype; working
  /// memory is that of reading `tokens` at once.
  virtual MemoryNeed memory(const Dimensions& dims, DType dtype, int64_t tokens,
                            DType s = DType::f32) const = 0;
  /// dtype: f32, bf16 or f16; that of the values where they have scales. Throws Error(out_of_memory).
  virtual std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) = 0;
  /// Throws Error(unsupported) for S as a dtype that the backend does not have.
  virtual std::unique_ptr<State> new_state(const Packed& packed, const StateOptions& options) = 0;
  /// Reads every segment: parallel inside, states carried across.
  /// Throws Error(bad_file) where a draw meets logits that are not finite (Sampler::next).
  virtual void read(const Packed& packed, const Read& read) = 0;
  /// After a provisional read: its first `tokens` tokens are read, the others were not. Without this none
  /// was. Throws Error(invalid_argument) for more than were read provisionally since the last other call.
  virtual void accept(State& state, int64_t tokens);
  /// A model of those sizes to be trained (training.h); freqs (N) float32, turns per token. Throws
  /// Error(invalid_argument) for options that make no sense, Error(unsupported) where the backend trains
  /// none.
  virtual std::unique_ptr<Training> new_training(const Dimensions& dims, const Tensor& freqs,
                                                 const TrainingOptions& options);
};

/// Throws Error(unsupported) where a segment has an adapter: for backends that apply none.
void refuse_adapters(const Read& read);

/// Throws Error(unsupported) for floats as a dtype other than f32, bf16 and f16, and for quantized weights as
/// one other than theirs. `backend`: "CPU", "CUDA".
void require_dtype(const Parameters& parameters, DType dtype, const char* backend);

/// The same parameters, not packed: a copy of what does not lie contiguous, for backends that copy it anyway.
Parameters contiguous(Parameters parameters);

/// Decode: every segment has a state and a single token.
bool is_decode(std::span<const Segment> segments);

}  // namespace bdh
