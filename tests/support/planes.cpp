// Planes filled by name, so that a backend's holes are left alone.
#include "tests/support/planes.h"

#include "bdh/model/frequencies.h"
#include "bdh/train/trainer.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/tensors.h"

namespace bdh::test {

Config small_training_config() { return config_of(1, 8, 2, 4, 19); }

std::unique_ptr<Training> small_training(const TrainingOptions& options) {
  const Config config = small_training_config();
  const Tensor freqs = initial_weights(config, 0).at("attn.freqs");
  return backend()->new_training(config.dimensions(), freqs, options);
}

std::vector<float> numbers(const Training& training, const Plane& plane) {
  std::vector<float> all;
  for (const auto& [name, tensor] : training.tensors(plane)) append(all, values<float>(tensor));
  return all;
}

std::unique_ptr<Plane> patterned_plane(Training& training, uint64_t seed) {
  TensorMap tensors = initial_weights(small_training_config(), seed);
  for (auto& [name, tensor] : tensors) {
    std::byte* data = nullptr;
    Tensor scaled = make_tensor(DType::f32, tensor.shape, &data);
    const std::vector<float> from = values<float>(tensor);
    for (size_t i = 0; i < from.size(); ++i) reinterpret_cast<float*>(data)[i] = 50 * from[i];
    tensor = scaled;
  }
  std::unique_ptr<Plane> plane = training.new_plane();
  training.set(*plane, tensors);
  return plane;
}

}  // namespace bdh::test
