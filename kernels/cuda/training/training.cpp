// The contract of training on a GPU: planes, the pass over a micro-batch, the optimizer.
#include "kernels/cuda/training/training.h"

#include <algorithm>
#include <numeric>

#include "bdh/base/error.h"
#include "kernels/cuda/training/buffers.h"
#include "kernels/cuda/training/layer.h"
#include "kernels/cuda/training/loss_training.h"
#include "kernels/cuda/training/nccl.h"
#include "kernels/cuda/training/optimizer.h"
#include "kernels/cuda/training/planes.h"
#include "kernels/horizon.h"
#include "kernels/plane_layout.h"
#include "kernels/training_checks.h"

namespace bdh::cuda {

namespace {

const float* read(const Plane& plane) { return static_cast<const DevicePlane&>(plane).data(); }
float* write(Plane& plane) { return static_cast<DevicePlane&>(plane).data(); }

// Memory that is kept for the next pass, unless that needs more.
template <class Kept>
void grow(Kept& memory, size_t bytes, Kept (*make)(size_t)) {
  if (bytes <= memory.bytes()) return;
  memory = Kept();
  memory = make(bytes);
}
DeviceMemory working(size_t bytes) { return {bytes, "working memory for training"}; }
PinnedMemory pinned(size_t bytes) { return PinnedMemory(bytes); }

class CudaTraining : public Training {
 public:
  CudaTraining(std::shared_ptr<const Queue> queue, std::shared_ptr<std::mutex> mutex, const Options& backend,
               const Dimensions& dims, const Tensor& freqs, const TrainingOptions& options)
      : Training(dims, options),
        queue_(std::move(queue)),
        mutex_(std::move(mutex)),
        backend_(backend),
        sizes_(sizes_of(dims)),
        layout_(dims, kVector) {
    const Tensor values = converted(freqs, DType::f32);
    const auto size = static_cast<size_t>(rounded_up(dims.neurons, kVector)) * sizeof(float);
    queue_->select();
    freqs_ = DeviceMemory(size, "the frequencies");
    check(cudaMemsetAsync(freqs_.as<void>(), 0, size, stream()), "clearing GPU memory");
    check(cudaMemcpyAsync(freqs_.as<void>(), values.data, static_cast<size_t>(dims.neurons) * sizeof(float),
                          cudaMemcpyHostToDevice, stream()),
          "copying frequencies to the GPU");
    queue_->stream.wait();
  }
  ~CudaTraining() override { cudaSetDevice(queue_->device); }

  std::unique_ptr<Plane> new_plane() override {
    const std::lock_guard lock(*mutex_);
    return std::make_unique<DevicePlane>(layout_.floats, queue_);
  }
  int64_t floats() const override { return layout_.floats; }

  TensorMap tensors(const Plane& plane) const override {
    std::vector<float> host(static_cast<size_t>(layout_.floats));
    to_host(plane, host);
    ThreadPool pool;
    TensorMap tensors;
    for (size_t i = 0; i < names().size(); ++i)
      tensors.emplace(names()[i], part_tensor(layout_.parts[i], host.data(), pool));
    return tensors;
  }

  void set(Plane& plane, const TensorMap& tensors) override {
    for (size_t i = 0; i < names().size(); ++i) check_parameter(tensors, names()[i], layout_.parts[i].shape);
    std::vector<float> host(static_cast<size_t>(layout_.floats));
    ThreadPool pool;
    for (size_t i = 0; i < names().size(); ++i)
      set_part(layout_.parts[i], tensors.at(names()[i]), host.data(), pool);
    from_host(host, plane);
  }

  void to_host(const Plane& plane, std::span<float> to) const override {
    const auto lock = select();
    check(cudaMemcpyAsync(to.data(), read(plane), bytes(to.size()), cudaMemcpyDeviceToHost, stream()),
          "copying parameters from the GPU");
    queue_->stream.wait();
  }
  void from_host(std::span<const float> from, Plane& plane) override {
    const auto lock = select();
    check(cudaMemcpyAsync(write(plane), from.data(), bytes(from.size()), cudaMemcpyHostToDevice, stream()),
          "copying parameters to the GPU");
    queue_->stream.wait();
  }

  std::string link_device() const override { return nccl_device(*queue_); }
  LinkKey new_link_key() override { return new_nccl_key(); }
  std::unique_ptr<PlaneLink> link(const LinkKey& key, int rank, int size) override {
    return nccl_link(queue_, mutex_, layout_.floats, key, rank, size);
  }

  std::unique_ptr<CarriedState> new_carried_state(int64_t sequences) override {
    const std::lock_guard lock(*mutex_);
    return std::make_unique<DeviceCarriedState>(dims_, sequences, queue_);
  }

  LossSum gradient(const Plane& parameters, const MicroBatch& batch, Plane& gradient,
                   CarriedState* carried) override {
    return run(parameters, batch, write(gradient), static_cast<DeviceCarriedState*>(carried));
  }
  LossSum loss(const Plane& parameters, const MicroBatch& batch, CarriedState* carried) override {
    return run(parameters, batch, nullptr, static_cast<DeviceCarriedState*>(carried));
  }

  void trim() override {
    const auto lock = select();
    memory_ = {};
    rounded_ = {};
  }

  void add(Plane& sum, const Plane& part) override {
    const auto lock = select();
    add_planes(write(sum), read(part), layout_.floats, stream());
  }
  void average(Plane& average, const Plane& parameters, double decay) override {
    const auto lock = select();
    blend_planes(write(average), read(parameters), static_cast<float>(decay), static_cast<float>(1 - decay),
                 layout_.floats, stream());
  }
  void copy(const Plane& from, Plane& to) override {
    const auto lock = select();
    check(cudaMemcpyAsync(write(to), read(from), bytes(), cudaMemcpyDeviceToDevice, stream()),
          "copying parameters");
  }

  double squared_norm(const Plane& plane) const override {
    const auto lock = select();
    const auto parts = static_cast<size_t>(square_parts(layout_.floats));
    grow(squares_, parts * sizeof(double), working);
    grow(host_squares_, parts * sizeof(double), pinned);
    squared_sums(read(plane), layout_.floats, squares_.as<double>(), stream());
    check(cudaMemcpyAsync(host_squares_.as<void>(), squares_.as<void>(), parts * sizeof(double),
                          cudaMemcpyDeviceToHost, stream()),
          "copying sums from the GPU");
    queue_->stream.wait();
    const auto* sums = host_squares_.as<double>();
    return std::accumulate(sums, sums + parts, 0.0);
  }

  void update(Plane& parameters, Plane& exp_avg, Plane& exp_avg_sq, const Plane& gradient,
              const AdamWStep& step) override {
    const auto lock = select();
    for (size_t i = 0; i < layout_.parts.size(); ++i) {
      const PlanePart& part = layout_.parts[i];
      adamw(adamw_numbers(step, step.decay.at(i)), part.rows * part.stride, read(gradient) + part.offset,
            write(parameters) + part.offset, write(exp_avg) + part.offset, write(exp_avg_sq) + part.offset,
            stream());
    }
  }

 private:
  cudaStream_t stream() const { return queue_->stream.get(); }
  size_t bytes(size_t most = SIZE_MAX) const {
    return std::min(most, static_cast<size_t>(layout_.floats)) * sizeof(float);
  }
  std::unique_lock<std::mutex> select() const {
    std::unique_lock lock(*mutex_);
    queue_->select();
    return lock;
  }

  LossSum run(const Plane& parameters, const MicroBatch& batch, float* gradient,
              DeviceCarriedState* carried) {
    check_micro_batch(dims_, batch);
    if (carried && carried->sequences() != batch.sequences)
      fail(ErrorKind::invalid_argument, "the carried state is of another number of sequences");
    const TrainingPlan plan =
        plan_training(dims_, options_, batch.sequences, batch.tokens, backend_.training_bytes);
    const auto lock = select();
    const Range range("training");
    const PassSizes sizes = sizes_for(plan, batch, gradient, carried);
    LayerRun layers = prepare(sizes, batch, carried);
    TrainingPass& pass = layers.pass;
    pass.parameters = operands(read(parameters));
    pass.gradient = gradient;
    if (gradient) check(cudaMemsetAsync(gradient, 0, bytes(), stream()), "clearing GPU memory");
    const int distinct = send(sizes, batch, pass);
    embed_training(pass, stream());
    for (int layer = 0; layer < sizes_.layers; ++layer) layer_forward(layers, layer);
    take_losses(pass, logits_at_once(sizes));
    for (int layer = sizes_.layers; gradient && layer-- > 0;) layer_backward(layers, layer);
    if (gradient) embedding_gradient(pass, distinct, stream());
    const LossSum sum = fetch_losses(batch, pass.losses);
    if (carried) carried->advance(batch.tokens);
    return sum;
  }

  PassSizes sizes_for(const TrainingPlan& plan, const MicroBatch& batch, const float* gradient,
                      const DeviceCarriedState* carried) const {
    return {sizes_,
            options_.precision,
            static_cast<int>(batch.sequences),
            static_cast<int>(batch.tokens),
            gradient != nullptr,
            !options_.horizons.empty(),
            carried != nullptr,
            static_cast<int>(layout_.lm_head().stride),
            backend_.training_bytes,
            plan};
  }

  // All the memory of a pass, before anything is queued.
  LayerRun prepare(const PassSizes& sizes, const MicroBatch& batch, DeviceCarriedState* carried) {
    LayerRun run{{},      sizes.plan, layout_, heads_at_once(sizes), carried ? carried->data() : nullptr,
                 nullptr, stream()};
    TrainingPass& pass = run.pass;
    Layout size(nullptr), batch_size(nullptr);
    lay_out(sizes, size, pass, run.kept);
    lay_out_batch(sizes, batch_size);
    grow(memory_, size.bytes(), working);
    grow(batch_memory_, batch_size.bytes(), working);
    grow(batch_staging_, batch_size.bytes(), pinned);
    grow(losses_, static_cast<size_t>(batch.sequences * batch.tokens) * sizeof(double), pinned);
    if (options_.precision != DType::f32)
      grow(rounded_, static_cast<size_t>(layout_.floats) * size_of(options_.precision), working);
    Layout there(memory_.as<void>());
    lay_out(sizes, there, pass, run.kept);
    if (!sizes.plan.chunked) run.kept = nullptr;
    pass.sizes = sizes_;
    pass.precision = options_.precision;
    pass.mma = backend_.mma;
    pass.damped = sizes.damped;
    pass.dropped = sizes.backward && options_.dropout > 0;
    pass.dropout = dropout_numbers(options_, batch.number);
    pass.freqs = freqs_.as<const float>();
    pass.lm_head = layout_.lm_head().offset;
    pass.embed = layout_.embed().offset;
    pass.vocab_stride = sizes.vocab_stride;
    pass.sequences = sizes.sequences;
    pass.tokens = sizes.tokens;
    pass.position = carried ? carried->position() : 0;
    pass.loss_scale = batch.loss_scale;
    pass.longest = sizes.plan.longest;
    return run;
  }

  const void* operands(const float* parameters) {
    if (options_.precision == DType::f32) return parameters;
    round_plane(parameters, layout_.floats, options_.precision, rounded_.as<void>(), stream());
    return rounded_.as<void>();
  }

  // Returns how many tokens occur.
  int send(const PassSizes& sizes, const MicroBatch& batch, TrainingPass& pass) {
    Layout staging(batch_staging_.as<void>()), there(batch_memory_.as<void>());
    const BatchArrays from = lay_out_batch(sizes, staging), to = lay_out_batch(sizes, there);
    std::copy(batch.inputs.begin(), batch.inputs.end(), from.inputs);
    std::copy(batch.targets.begin(), batch.targets.end(), from.targets);
    const int distinct = order_by_token(batch.inputs, from);
    for (size_t head = 0; head < options_.horizons.size(); ++head) {
      for (int distance = 0; distance <= sizes.plan.longest; ++distance)
        from.weights[static_cast<int64_t>(head) * (sizes.plan.longest + 1) + distance] =
            weight_after(distance, options_.horizons[head]);
    }
    check(cudaMemcpyAsync(batch_memory_.as<void>(), batch_staging_.as<void>(), staging.bytes(),
                          cudaMemcpyHostToDevice, stream()),
          "copying tokens to the GPU");
    pass.inputs = to.inputs;
    pass.targets = to.targets;
    pass.order = to.order;
    pass.firsts = to.firsts;
    pass.occurring = to.occurring;
    pass.weights = sizes.damped ? to.weights : nullptr;
    return distinct;
  }

  // Rows by their token, in their order.
  int order_by_token(std::span<const int32_t> inputs, const BatchArrays& arrays) {
    counts_.assign(static_cast<size_t>(dims_.vocab), 0);
    for (const int32_t token : inputs) ++counts_[static_cast<size_t>(token)];
    int32_t distinct = 0, first = 0;
    for (size_t token = 0; token < counts_.size(); ++token) {
      if (counts_[token] == 0) continue;
      arrays.occurring[distinct] = static_cast<int32_t>(token);
      arrays.firsts[distinct++] = first;
      first += std::exchange(counts_[token], first);
    }
    arrays.firsts[distinct] = first;
    for (size_t row = 0; row < inputs.size(); ++row)
      arrays.order[counts_[static_cast<size_t>(inputs[row])]++] = static_cast<int32_t>(row);
    return distinct;
  }

  void take_losses(TrainingPass& pass, int at_once) const {
    for (pass.logit_first = 0; pass.logit_first < pass.batch_rows(); pass.logit_first += at_once) {
      pass.logit_count = std::min(at_once, pass.batch_rows() - pass.logit_first);
      take_loss(pass, stream());
    }
  }

  LossSum fetch_losses(const MicroBatch& batch, const double* losses) {
    const size_t rows = batch.targets.size();
    check(
        cudaMemcpyAsync(losses_.as<void>(), losses, rows * sizeof(double), cudaMemcpyDeviceToHost, stream()),
        "copying losses from the GPU");
    queue_->stream.wait();
    LossSum sum;
    for (size_t row = 0; row < rows; ++row) {
      sum.nats += losses_.as<double>()[row];
      sum.tokens += batch.targets[row] >= 0;
    }
    return sum;
  }

  std::shared_ptr<const Queue> queue_;
  std::shared_ptr<std::mutex> mutex_;
  Options backend_;
  Sizes sizes_;
  PlaneLayout layout_;
  DeviceMemory freqs_, memory_, batch_memory_, rounded_;
  PinnedMemory batch_staging_, losses_;
  mutable DeviceMemory squares_;
  mutable PinnedMemory host_squares_;
  std::vector<int32_t> counts_;  // of each token; then where its next row belongs
};

}  // namespace

std::unique_ptr<Training> make_training(std::shared_ptr<const Queue> queue, std::shared_ptr<std::mutex> mutex,
                                        const Options& backend, const Dimensions& dims, const Tensor& freqs,
                                        const TrainingOptions& options) {
  return std::make_unique<CudaTraining>(std::move(queue), std::move(mutex), backend, dims, freqs, options);
}

}  // namespace bdh::cuda
