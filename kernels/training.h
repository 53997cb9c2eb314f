// The contract between training and the hardware: gradients, and the few things done with all parameters.
//
// Symbols as in backend.h. The loss is the cross-entropy in nats of the next token, summed over the targets
// of a micro-batch (not their mean: whoever adds micro-batches up divides by their tokens). With m = tril(r
// r^T, -1), weighted by the horizon where there is one, and dA the gradient of a (spec: arXiv 2509.26507, eq.
// 4):
//     dx += sum_h m^T dA;  dm = tril(dA x^T, -1);  dr = (dm + dm^T) r
// in the chunked form, with the state S (N, D) that runs forwards and dS (N, D) that runs backwards:
//     a += r S;  dr += dA S^T;  dx += r dS;  dr += x dS^T;  S += r^T x;  dS += r^T dA
// Only x is kept at each layer; the rest is computed again. Dropout acts on g.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/tensor.h"
#include "kernels/backend.h"

namespace bdh {

enum class TrainingForm : uint8_t { automatic, parallel, chunked };

struct TrainingOptions {
  TrainingForm form = TrainingForm::automatic;
  int64_t chunk = 0;               // tokens of a chunk; 0: what suits the backend
  DType precision = DType::f32;    // f32; bf16 or f16: what weights and activations are rounded to
  std::vector<float> horizons;     // as StateOptions
  float dropout = 0.0f;            // in [0, 1): share of g that is dropped in gradient()
  uint64_t seed = 0;               // of dropout
  std::vector<std::string> names;  // of the parameters, as trained_names orders them; empty: those
};

/// Sequences of equal length that are read together.
struct MicroBatch {
  int64_t sequences = 0;             // B
  int64_t tokens = 0;                // T
  std::span<const int32_t> inputs;   // (B, T), each in [0, V)
  std::span<const int32_t> targets;  // (B, T), each in [0, V), or below 0: not counted
  uint64_t number = 0;               // keys dropout: the same number drops the same neurons
  float loss_scale = 1.0f;           // gradients are multiplied by it
  /// Asked now and then, where the backend's work is long; true ends it with Error(cancelled). What it was to
  /// write, a carried state included, is of no use then. Null: never.
  const std::function<bool()>* stop = nullptr;
};

/// Summed over the targets of a micro-batch.
struct LossSum {
  double nats = 0;
  int64_t tokens = 0;
};

/// One update by AdamW (Loshchilov and Hutter, arXiv 1711.05101), with the roundings of torch.optim.AdamW.
struct AdamWStep {
  int64_t step = 1;  // from 1
  double rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double gradient_scale = 1;  // the gradient is multiplied by it first
  /// Weight decay of each parameter, in the order of Training::names.
  std::vector<double> decay;
};

/// Numbers shaped like all parameters, in the backend's own layout: parameters, a gradient, a moment.
class Plane {
 public:
  virtual ~Plane() = default;
};

/// What one sequence batch remembers from one micro-batch to the next: S of every layer and sequence, and the
/// position. No gradient goes through it.
class CarriedState {
 public:
  virtual ~CarriedState() = default;
  virtual int64_t position() const = 0;
  virtual void reset() = 0;
  /// S (L, B, H, N, D) float32 on the CPU, to be kept and to go on from with the same bits.
  virtual Tensor save() const = 0;
  /// Throws Error(bad_file) for another shape.
  virtual void restore(const Tensor& saved, int64_t position) = 0;
};

/// Planes on their way from one rank's device to another's, without the host between.
class PlaneLink {
 public:
  virtual ~PlaneLink() = default;
  /// To and from one other rank, in order. Throws Error(io).
  virtual void send(const Plane& plane, int to) = 0;
  virtual void receive(Plane& plane, int from) = 0;
  /// From rank 0 to all.
  virtual void broadcast(Plane& plane) = 0;
};

/// What the ranks of one link have in common: rank 0's, given to all.
using LinkKey = std::array<std::byte, 128>;

/// A model on a backend, to be trained. Not for concurrent use. The same calls give the same bits, whatever
/// the number of threads: every sum has a fixed order.
class Training {
 public:
  virtual ~Training() = default;

  const Dimensions& dimensions() const { return dims_; }
  const TrainingOptions& options() const { return options_; }
  /// Names of the parameters, as in the state_dict and in its order; attn.freqs is none.
  const std::vector<std::string>& names() const { return options_.names; }

  /// A plane of zeros.
  virtual std::unique_ptr<Plane> new_plane() = 0;
  /// The plane as float32 tensors on the CPU under their state_dict names and shapes.
  virtual TensorMap tensors(const Plane& plane) const = 0;
  /// Takes every parameter from `tensors`, of any weight dtype; others are ignored. Throws Error(bad_file)
  /// naming the tensor that is missing or has another shape.
  virtual void set(Plane& plane, const TensorMap& tensors) = 0;
  /// Numbers in a plane as they lie in memory, holes included: what ranks send to each other.
  virtual int64_t floats() const = 0;
  virtual void to_host(const Plane& plane, std::span<float> to) const = 0;
  virtual void from_host(std::span<const float> from, Plane& plane) = 0;

  /// The device's name among those of all machines, where planes can go to other devices by a PlaneLink;
  /// empty: they go by way of the host.
  virtual std::string link_device() const { return {}; }
  virtual LinkKey new_link_key() { return {}; }
  /// Called by all ranks together, each with another device. Throws Error(io).
  virtual std::unique_ptr<PlaneLink> link(const LinkKey& /*key*/, int /*rank*/, int /*size*/) {
    return nullptr;
  }

  virtual std::unique_ptr<CarriedState> new_carried_state(int64_t sequences) = 0;

  /// The gradient of the summed loss, from zero, into `gradient`. carried: read from and moved on.
  virtual LossSum gradient(const Plane& parameters, const MicroBatch& batch, Plane& gradient,
                           CarriedState* carried = nullptr) = 0;
  /// The summed loss alone, without dropout.
  virtual LossSum loss(const Plane& parameters, const MicroBatch& batch, CarriedState* carried = nullptr) = 0;

  /// Gives the working memory of passes back; the next one takes it again.
  virtual void trim() = 0;

  /// sum += part.
  virtual void add(Plane& sum, const Plane& part) = 0;
  /// Sum of the squares, in float64; not finite where a number is not.
  virtual double squared_norm(const Plane& plane) const = 0;
  virtual void update(Plane& parameters, Plane& exp_avg, Plane& exp_avg_sq, const Plane& gradient,
                      const AdamWStep& step) = 0;
  /// average = decay * average + (1 - decay) * parameters.
  virtual void average(Plane& average, const Plane& parameters, double decay) = 0;
  virtual void copy(const Plane& from, Plane& to) = 0;

 protected:
  Training(const Dimensions& dims, TrainingOptions options);
  Dimensions dims_;
  TrainingOptions options_;
};

/// The parameters' names for models of those sizes: decoder, encoder, encoder_v (or all decoder.0, .., then
/// all encoder.0, ..), lm_head, embed.weight. A model of one layer that is not tied has other names than
/// these.
std::vector<std::string> trained_names(const Dimensions& dims);

}  // namespace bdh
