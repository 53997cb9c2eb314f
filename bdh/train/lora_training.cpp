// Merging before a pass, and taking the matrices' gradients from the weights' after it. Matrices are small:
// what is done with them needs no kernels of its own.
#include "bdh/train/lora_training.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "bdh/base/error.h"
#include "kernels/training_checks.h"
#include "kernels/training_numbers.h"

namespace bdh {

namespace {

constexpr size_t kLanes = 16;  // sums that are taken side by side

class LoraPlane : public Plane {
 public:
  explicit LoraPlane(int64_t floats) : numbers(static_cast<size_t>(floats)) {}
  std::vector<float> numbers;
  uint64_t written = 0;  // changes with the numbers
};

const LoraPlane& read(const Plane& plane) { return static_cast<const LoraPlane&>(plane); }

// One of the two matrices of a target.
struct Matrix {
  Shape shape;
  int64_t offset = 0;  // in a plane
};

TrainingOptions options_of(const Training& model, const std::vector<LoraTarget>& targets) {
  TrainingOptions options = model.options();
  options.names.clear();
  for (const LoraTarget& target : targets) {
    options.names.push_back(target.parameter + kLoraA);
    options.names.push_back(target.parameter + kLoraB);
  }
  return options;
}

float dot(const float* a, const float* b, size_t count) {
  std::array<float, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  for (; i < count; ++i) sums[0] += a[i] * b[i];
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

// da += scale * b^T dw and db = scale * dw a^T, row by row of dw.
void add_gradients(const LoraTarget& target, const float* dw, float scale, const float* a, const float* b,
                   float* da, float* db) {
  const int64_t rank = target.b.back(), columns = target.shape.back();
  const int64_t rows = target.shape[target.shape.size() - 2], all = element_count(target.shape) / columns;
  for (int64_t row = 0; row < all; ++row, dw += columns, b += rank, db += rank) {
    const int64_t of_head = row / rows * rank * columns;
    for (int64_t k = 0; k < rank; ++k) {
      const float factor = scale * b[k];
      float* to = da + of_head + k * columns;
      for (int64_t i = 0; i < columns; ++i) to[i] += factor * dw[i];
      db[k] = scale * dot(dw, a + of_head + k * columns, static_cast<size_t>(columns));
    }
  }
}

void adamw(const AdamWNumbers& step, float gradient, float& parameter, float& exp_avg, float& exp_avg_sq) {
  gradient *= step.gradient_scale;
  exp_avg += step.beta1_rest * (gradient - exp_avg);
  exp_avg_sq = exp_avg_sq * step.beta2 + step.beta2_rest * gradient * gradient;
  const float denominator = std::sqrt(exp_avg_sq) / step.root_correction + step.epsilon;
  parameter = parameter * step.keep - step.rate * exp_avg / denominator;
}

class LoraTraining : public Training {
 public:
  LoraTraining(std::unique_ptr<Training> model, TensorMap base, std::vector<LoraTarget> targets, double scale)
      : Training(model->dimensions(), options_of(*model, targets)),
        model_(std::move(model)),
        base_(std::move(base)),
        targets_(std::move(targets)),
        scale_(scale),
        merged_(model_->new_plane()),
        gradient_(model_->new_plane()) {
    for (const LoraTarget& target : targets_) {
      add_matrix(target.a);
      add_matrix(target.b);
    }
    model_->set(*merged_, base_);
  }

  std::unique_ptr<Plane> new_plane() override {
    auto plane = std::make_unique<LoraPlane>(floats_);
    plane->written = ++writes_;
    return plane;
  }
  int64_t floats() const override { return floats_; }

  TensorMap tensors(const Plane& plane) const override {
    TensorMap tensors;
    for (size_t i = 0; i < matrices_.size(); ++i) {
      std::byte* data = nullptr;
      const Tensor tensor = make_tensor(DType::f32, matrices_[i].shape, &data);
      std::memcpy(data, read(plane).numbers.data() + matrices_[i].offset, tensor.bytes());
      tensors.emplace(names()[i], tensor);
    }
    return tensors;
  }

  void set(Plane& plane, const TensorMap& tensors) override {
    for (size_t i = 0; i < matrices_.size(); ++i) check_parameter(tensors, names()[i], matrices_[i].shape);
    std::vector<float>& numbers = write(plane);
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const Tensor values = converted(tensors.at(names()[i]), DType::f32);
      std::memcpy(numbers.data() + matrices_[i].offset, values.data, values.bytes());
    }
  }

  void to_host(const Plane& plane, std::span<float> to) const override {
    const std::vector<float>& numbers = read(plane).numbers;
    std::copy_n(numbers.data(), std::min(numbers.size(), to.size()), to.data());
  }
  void from_host(std::span<const float> from, Plane& plane) override {
    std::vector<float>& numbers = write(plane);
    std::copy_n(from.data(), std::min(numbers.size(), from.size()), numbers.data());
  }

  std::unique_ptr<CarriedState> new_carried_state(int64_t sequences) override {
    return model_->new_carried_state(sequences);
  }

  LossSum gradient(const Plane& parameters, const MicroBatch& batch, Plane& gradient,
                   CarriedState* carried) override {
    merge(parameters);
    const LossSum loss = model_->gradient(*merged_, batch, *gradient_, carried);
    const TensorMap of_weights = model_->tensors(*gradient_);
    const float* numbers = read(parameters).numbers.data();
    std::vector<float>& to = write(gradient);
    std::fill(to.begin(), to.end(), 0.0f);
    for (size_t i = 0; i < targets_.size(); ++i) {
      const int64_t a = matrices_[2 * i].offset, b = matrices_[2 * i + 1].offset;
      const auto* dw = reinterpret_cast<const float*>(of_weights.at(targets_[i].parameter).data);
      add_gradients(targets_[i], dw, static_cast<float>(scale_), numbers + a, numbers + b, to.data() + a,
                    to.data() + b);
    }
    return loss;
  }
  LossSum loss(const Plane& parameters, const MicroBatch& batch, CarriedState* carried) override {
    merge(parameters);
    return model_->loss(*merged_, batch, carried);
  }

  void trim() override { model_->trim(); }

  void add(Plane& sum, const Plane& part) override {
    std::vector<float>& numbers = write(sum);
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] += read(part).numbers[i];
  }
  double squared_norm(const Plane& plane) const override {
    double sum = 0;
    for (const float number : read(plane).numbers) sum += double{number} * number;
    return sum;
  }
  void update(Plane& parameters, Plane& exp_avg, Plane& exp_avg_sq, const Plane& gradient,
              const AdamWStep& step) override {
    std::vector<float>&values = write(parameters), &mean = write(exp_avg), &square = write(exp_avg_sq);
    for (size_t part = 0; part < matrices_.size(); ++part) {
      const AdamWNumbers numbers = adamw_numbers(step, step.decay.at(part));
      const auto begin = static_cast<size_t>(matrices_[part].offset);
      const auto end = begin + static_cast<size_t>(element_count(matrices_[part].shape));
      for (size_t i = begin; i < end; ++i)
        adamw(numbers, read(gradient).numbers[i], values[i], mean[i], square[i]);
    }
  }
  void average(Plane& average, const Plane& parameters, double decay) override {
    const auto keep = static_cast<float>(decay), rest = static_cast<float>(1 - decay);
    std::vector<float>& numbers = write(average);
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = numbers[i] * keep + read(parameters).numbers[i] * rest;
  }
  void copy(const Plane& from, Plane& to) override { write(to) = read(from).numbers; }

 private:
  void add_matrix(const Shape& shape) {
    matrices_.push_back({shape, floats_});
    floats_ += element_count(shape);
  }

  std::vector<float>& write(Plane& plane) {
    auto& of_adapter = static_cast<LoraPlane&>(plane);
    of_adapter.written = ++writes_;
    return of_adapter.numbers;
  }

  // Once for all micro-batches of a step, and all blocks of a validation.
  void merge(const Plane& parameters) {
    if (read(parameters).written == merged_written_) return;
    model_->set(*merged_, merged_weights(base_, tensors(parameters), scale_));
    merged_written_ = read(parameters).written;
  }

  std::unique_ptr<Training> model_;
  TensorMap base_;
  std::vector<LoraTarget> targets_;
  double scale_;
  std::vector<Matrix> matrices_;  // in the order of names
  int64_t floats_ = 0;
  uint64_t writes_ = 0, merged_written_ = 0;
  std::unique_ptr<Plane> merged_, gradient_;  // of the model
};

}  // namespace

std::unique_ptr<Training> new_lora_training(std::unique_ptr<Training> model, TensorMap base,
                                            const Config& config, const LoraOptions& options) {
  return std::make_unique<LoraTraining>(std::move(model), std::move(base), lora_targets(config, options),
                                        options.scale());
}

}  // namespace bdh
