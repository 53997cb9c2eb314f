// The parts of a plane one after the other, and their transposition.
#include "kernels/plane_layout.h"

#include <cstring>

namespace bdh {

namespace {

int64_t rounded_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

/// Calls move(row of the part, where its first element stands in the tensor, distance of its elements there).
template <class Move>
void for_each_row(const PlanePart& part, ThreadPool& pool, const Move& move) {
  if (!part.transposed) {
    pool.run(part.rows, [&](int64_t row, int) { move(row, row * part.width, int64_t{1}); });
    return;
  }
  const int64_t neurons = part.shape[2];
  pool.run(part.rows, [&](int64_t row, int) {
    move(row, row / neurons * part.width * neurons + row % neurons, neurons);
  });
}

}  // namespace

PlaneLayout::PlaneLayout(const Dimensions& d, int64_t padding)
    : dims(d), stride(rounded_up(d.width, padding)) {
  const auto add = [&](int64_t rows, int64_t width, bool transposed, Shape shape) {
    parts.push_back({0, rows, width, rounded_up(width, padding), transposed, std::move(shape)});
  };
  const int64_t all = d.heads * d.neurons;
  for (int64_t set = 0; set < d.sets; ++set) add(all, d.width, false, {all, d.width});
  for (int64_t set = 0; set < 2 * d.sets; ++set) add(all, d.width, true, {d.heads, d.width, d.neurons});
  add(d.width, d.vocab, false, {d.width, d.vocab});
  add(d.vocab, d.width, false, {d.vocab, d.width});
  for (PlanePart& part : parts) {
    part.offset = floats;
    floats += part.rows * part.stride;
  }
}

Tensor part_tensor(const PlanePart& part, const float* plane, ThreadPool& pool) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, part.shape, &data);
  auto* to = reinterpret_cast<float*>(data);
  for_each_row(part, pool, [&](int64_t row, int64_t first, int64_t distance) {
    const float* from = plane + part.offset + row * part.stride;
    for (int64_t i = 0; i < part.width; ++i) to[first + i * distance] = from[i];
  });
  return tensor;
}

void set_part(const PlanePart& part, const Tensor& tensor, float* plane, ThreadPool& pool) {
  const Tensor values = converted(tensor, DType::f32);
  for_each_row(part, pool, [&](int64_t row, int64_t first, int64_t distance) {
    float* to = plane + part.offset + row * part.stride;
    for (int64_t i = 0; i < part.width; ++i)
      std::memcpy(to + i, values.data + static_cast<size_t>(first + i * distance) * sizeof(float),
                  sizeof(float));
  });
}

}  // namespace bdh
