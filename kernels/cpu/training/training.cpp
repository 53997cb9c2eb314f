// The contract of training: planes, the pass over a micro-batch, the optimizer.
#include "kernels/cpu/training/training.h"

#include <cstring>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "kernels/cpu/training/layer.h"
#include "kernels/cpu/training/loss.h"
#include "kernels/horizon.h"
#include "kernels/training_checks.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kPiece = 16384;  // floats of a plane that one task treats

class CpuPlane : public Plane {
 public:
  explicit CpuPlane(int64_t floats)
      : memory_(allocate_zeroed(static_cast<size_t>(floats) * sizeof(float), "the parameters in training")) {}
  float* data() const { return reinterpret_cast<float*>(memory_.get()); }

 private:
  std::shared_ptr<std::byte> memory_;
};

const float* read(const Plane& plane) { return static_cast<const CpuPlane&>(plane).data(); }
float* write(Plane& plane) { return static_cast<CpuPlane&>(plane).data(); }

class CpuCarriedState : public CarriedState {
 public:
  CpuCarriedState(const Dimensions& dims, int64_t sequences)
      : dims_(dims),
        sequences_(sequences),
        memory_(allocate_zeroed(static_cast<size_t>(rows() * padded(dims.width)) * sizeof(float),
                                "the states carried from block to block")) {}

  int64_t position() const override { return position_; }
  int64_t sequences() const { return sequences_; }
  float* data() const { return reinterpret_cast<float*>(memory_.get()); }
  void advance(int64_t tokens) { position_ += tokens; }

  void reset() override {
    std::fill(data(), data() + rows() * padded(dims_.width), 0.0f);
    position_ = 0;
  }

  Tensor save() const override {
    std::byte* to = nullptr;
    Tensor tensor = make_tensor(DType::f32, shape(), &to);
    for (int64_t row = 0; row < rows(); ++row)
      std::memcpy(to + row * row_bytes(), data() + row * padded(dims_.width),
                  static_cast<size_t>(row_bytes()));
    return tensor;
  }

  void restore(const Tensor& saved, int64_t position) override {
    check_carried(saved, shape());
    for (int64_t row = 0; row < rows(); ++row)
      std::memcpy(data() + row * padded(dims_.width), saved.data + row * row_bytes(),
                  static_cast<size_t>(row_bytes()));
    position_ = position;
  }

 private:
  Shape shape() const { return carried_shape(dims_, sequences_); }
  int64_t rows() const { return dims_.layers * sequences_ * dims_.heads * dims_.neurons; }
  int64_t row_bytes() const { return dims_.width * static_cast<int64_t>(sizeof(float)); }

  Dimensions dims_;
  int64_t sequences_;
  int64_t position_ = 0;
  std::shared_ptr<std::byte> memory_;
};

class CpuTraining : public Training {
 public:
  CpuTraining(const TrainingHost& host, const Dimensions& dims, const Tensor& freqs,
              const TrainingOptions& options)
      : Training(dims, options),
        host_(host),
        layout_(dims, kPadding),
        freqs_(static_cast<size_t>(dims.neurons)) {
    const Tensor values = converted(freqs, DType::f32);
    std::memcpy(freqs_.data(), values.data, freqs_.size() * sizeof(float));
    for (const float f : freqs_) fixed_freqs_.push_back(fixed_point(f));
  }

  std::unique_ptr<Plane> new_plane() override { return std::make_unique<CpuPlane>(layout_.floats); }
  int64_t floats() const override { return layout_.floats; }

  TensorMap tensors(const Plane& plane) const override {
    const std::lock_guard lock(host_.mutex);
    TensorMap tensors;
    for (size_t i = 0; i < names().size(); ++i)
      tensors.emplace(names()[i], part_tensor(layout_.parts[i], read(plane), host_.pool));
    return tensors;
  }

  void set(Plane& plane, const TensorMap& tensors) override {
    for (size_t i = 0; i < names().size(); ++i) check_parameter(tensors, names()[i], layout_.parts[i].shape);
    const std::lock_guard lock(host_.mutex);
    for (size_t i = 0; i < names().size(); ++i)
      set_part(layout_.parts[i], tensors.at(names()[i]), write(plane), host_.pool);
  }

  void to_host(const Plane& plane, std::span<float> to) const override {
    std::copy_n(read(plane), std::min<int64_t>(layout_.floats, static_cast<int64_t>(to.size())), to.data());
  }
  void from_host(std::span<const float> from, Plane& plane) override {
    std::copy_n(from.data(), std::min<int64_t>(layout_.floats, static_cast<int64_t>(from.size())),
                write(plane));
  }

  std::unique_ptr<CarriedState> new_carried_state(int64_t sequences) override {
    return std::make_unique<CpuCarriedState>(dims_, sequences);
  }

  LossSum gradient(const Plane& parameters, const MicroBatch& batch, Plane& gradient,
                   CarriedState* carried) override {
    return run(parameters, batch, &gradient, carried);
  }
  LossSum loss(const Plane& parameters, const MicroBatch& batch, CarriedState* carried) override {
    return run(parameters, batch, nullptr, carried);
  }

  void trim() override {
    const std::lock_guard lock(host_.mutex);
    scratch_ = {};
    rounded_ = {};
  }

  void add(Plane& sum, const Plane& part) override {
    for_pieces(
        [&](int64_t at, int64_t count) { host_.training.add(write(sum) + at, read(part) + at, count); });
  }
  void average(Plane& average, const Plane& parameters, double decay) override {
    for_pieces([&](int64_t at, int64_t count) {
      host_.training.blend(write(average) + at, read(parameters) + at, static_cast<float>(decay),
                           static_cast<float>(1 - decay), count);
    });
  }
  void copy(const Plane& from, Plane& to) override {
    for_pieces([&](int64_t at, int64_t count) { std::copy_n(read(from) + at, count, write(to) + at); });
  }

  double squared_norm(const Plane& plane) const override {
    std::vector<double> pieces(static_cast<size_t>((layout_.floats + kPiece - 1) / kPiece));
    for_pieces([&](int64_t at, int64_t count) {
      pieces[static_cast<size_t>(at / kPiece)] = host_.training.squared_sum(read(plane) + at, count);
    });
    double total = 0;
    for (const double piece : pieces) total += piece;
    return total;
  }

  void update(Plane& parameters, Plane& exp_avg, Plane& exp_avg_sq, const Plane& gradient,
              const AdamWStep& step) override {
    for (size_t i = 0; i < layout_.parts.size(); ++i) {
      const PlanePart& part = layout_.parts[i];
      const AdamWNumbers numbers = adamw_numbers(step, step.decay.at(i));
      for_pieces(part.offset, part.rows * part.stride, [&](int64_t at, int64_t count) {
        host_.training.adamw(numbers, count, read(gradient) + at, write(parameters) + at, write(exp_avg) + at,
                             write(exp_avg_sq) + at);
      });
    }
  }

 private:
  template <class Use>
  void for_pieces(int64_t begin, int64_t floats, const Use& use) const {
    const std::lock_guard lock(host_.mutex);
    host_.pool.run((floats + kPiece - 1) / kPiece,
                   [&](int64_t i, int) { use(begin + i * kPiece, std::min(kPiece, floats - i * kPiece)); });
  }
  template <class Use>
  void for_pieces(const Use& use) const {
    for_pieces(0, layout_.floats, use);
  }

  void check(const MicroBatch& batch, const CarriedState* carried) const {
    check_micro_batch(dims_, batch);
    if (carried && static_cast<const CpuCarriedState*>(carried)->sequences() != batch.sequences)
      fail(ErrorKind::invalid_argument, "the carried state is of another number of sequences");
  }

  const float* rounded(const float* parameters) {
    if (options_.precision == DType::f32) return parameters;
    float* to = rounded_.at_least(layout_.floats);
    host_.pool.run((layout_.floats + kPiece - 1) / kPiece, [&](int64_t i, int) {
      const int64_t at = i * kPiece;
      host_.training.round(parameters + at, std::min(kPiece, layout_.floats - at), options_.precision,
                           to + at);
    });
    return to;
  }

  LossSum run(const Plane& parameters, const MicroBatch& batch, Plane* gradient, CarriedState* carried) {
    check(batch, carried);
    const std::lock_guard lock(host_.mutex);
    auto* state = static_cast<CpuCarriedState*>(carried);
    Pass pass = new_pass(rounded(read(parameters)), batch, gradient ? write(*gradient) : nullptr, state);
    if (gradient) std::fill_n(pass.gradient, layout_.floats, 0.0f);
    begin_pass(pass);
    embed_tokens(pass);
    for (int64_t layer = 0; layer < dims_.layers; ++layer) layer_forward(pass, layer);
    const LossSum loss = head_loss(pass);
    for (int64_t layer = dims_.layers; gradient && layer-- > 0;) layer_backward(pass, layer);
    if (gradient) embedding_gradient(pass);
    if (state) state->advance(batch.tokens);
    return loss;
  }

  Pass new_pass(const float* parameters, const MicroBatch& batch, float* gradient, CpuCarriedState* state) {
    Pass pass{host_.kernels, host_.training, host_.pool, layout_, options_, dims_, batch, scratch_};
    pass.parameters = parameters;
    pass.gradient = gradient;
    pass.carried = state ? state->data() : nullptr;
    pass.freqs = freqs_.data();
    pass.fixed_freqs = fixed_freqs_.data();
    pass.position = state ? state->position() : 0;
    pass.plan = plan_rows(dims_, options_, batch.sequences, batch.tokens);
    pass.stride = layout_.stride;
    pass.rows = batch.sequences * batch.tokens;
    pass.dropout = dropout_numbers(options_, batch.number);
    return pass;
  }

  TrainingHost host_;
  PlaneLayout layout_;
  std::vector<float> freqs_;
  std::vector<uint64_t> fixed_freqs_;
  TrainingScratch scratch_;
  Buffer<float> rounded_;
};

}  // namespace

std::unique_ptr<Training> make_training(const TrainingHost& host, const Dimensions& dims, const Tensor& freqs,
                                        const TrainingOptions& options) {
  return std::make_unique<CpuTraining>(host, dims, freqs, options);
}

}  // namespace bdh::cpu
