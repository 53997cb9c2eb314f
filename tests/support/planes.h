// Training and its planes as tests make them.
#pragma once

#include <memory>
#include <vector>

#include "bdh/model/config.h"
#include "kernels/training.h"

namespace bdh::test {

/// L 1, D 8, H 2, N 16, V 19.
Config small_training_config();
std::unique_ptr<Training> small_training(const TrainingOptions& options = {});
/// Every number of a plane, in a fixed order, holes left out.
std::vector<float> numbers(const Training& training, const Plane& plane);
/// The same every time for a seed, about 1 in size.
std::unique_ptr<Plane> patterned_plane(Training& training, uint64_t seed);

}  // namespace bdh::test
