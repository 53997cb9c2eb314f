// Fills buffers and keeps what was put into them.
#include "tests/kernels/cuda/cases.h"

#include "kernels/cuda/devices.h"

namespace bdh::test {

namespace {

constexpr double kStateScale = 0.5;

template <class Element>
cuda::DeviceMemory on_device(const std::vector<Element>& from) {
  cuda::DeviceMemory memory(from.size() * sizeof(Element), "a test");
  upload_bytes(memory.as<void>(), from.data(), from.size() * sizeof(Element));
  return memory;
}

void restore(const KernelModel& model, const CaseState& state) {
  upload(state.memory.as<void>(), padded(state.before, model.dims.width, model.sizes().stride));
}

}  // namespace

CaseState::CaseState(const KernelModel& model, uint64_t seed)
    : before(random_numbers(model.dims.layers * model.sizes().rows() * model.dims.width, seed, kStateScale)),
      memory(uploaded(padded(before, model.dims.width, model.sizes().stride))) {}

Numbers CaseState::now(const KernelModel& model) const {
  const cuda::Sizes sizes = model.sizes();
  return unpadded(download(memory.as<void>(), sizes.state_floats()), sizes.width, sizes.stride);
}

DecodeCase::DecodeCase(const KernelModel& of, const std::vector<int64_t>& positions)
    : model(of),
      count(static_cast<int>(positions.size())),
      x(random_numbers(count * of.dims.width, 11, 1.7)),
      memory(poisoned(cuda::decode_bytes(of.sizes(), count))),
      arrived(static_cast<size_t>(count * (of.dims.heads + 1)) * sizeof(unsigned), "a test"),
      buffers(cuda::decode_buffers(of.sizes(), count, memory.as<void>())) {
  for (const int64_t position : positions) {
    const auto i = static_cast<int64_t>(states.size());
    states.emplace_back(model, static_cast<uint64_t>(100 + i));
    sequences.push_back({states.back().memory.as<float>(),
                         static_cast<int32_t>((7 * i + 3) % model.dims.vocab),
                         static_cast<int32_t>(position)});
  }
  buffers.arrived = arrived.as<unsigned>();
  reset();
}

void DecodeCase::reset() {
  poison(memory.as<void>(), memory.bytes());
  cuda::check(cudaMemset(arrived.as<void>(), 0, arrived.bytes()), "clearing");
  upload_bytes(const_cast<cuda::Sequence*>(buffers.sequences), sequences.data(),
               sequences.size() * sizeof(cuda::Sequence));
  upload(buffers.x, padded(x, model.dims.width, model.sizes().stride));
  for (const CaseState& state : states) restore(model, state);
}

PrefillCase::PrefillCase(const KernelModel& of, const std::vector<CaseSegment>& given, cuda::Mma mma)
    : model(of) {
  const cuda::Sizes sizes = model.sizes();
  for (const CaseSegment& segment : given) {
    states.emplace_back(model, 200 + states.size());
    const auto first = static_cast<int32_t>(plan.rows.size());
    for (int32_t i = 0; i < segment.count; ++i)
      plan.rows.push_back({static_cast<int32_t>((i * 5 + first) % model.dims.vocab),
                           static_cast<int32_t>(segment.position + i), segment.position > 0});
    plan.segments.push_back({segment.keeps ? states.back().memory.as<float>() : nullptr, first, segment.count,
                             segment.position > 0});
  }
  const auto count = static_cast<int>(plan.rows.size());
  cuda::plan_tiles(plan, cuda::rows_of_tile(cuda::activation_dtype(sizes, model.dtype)));
  x = random_numbers(count * model.dims.width, 12, 1.7);
  memory = poisoned(cuda::prefill_bytes(sizes, model.dtype, count, plan.longest));
  rows = on_device(plan.rows);
  segments = on_device(plan.segments);
  tiles = on_device(plan.tiles);
  counts = on_device(std::vector<cuda::PrefillCounts>(static_cast<size_t>(sizes.layers)));
  buffers = cuda::prefill_buffers(sizes, model.dtype, count, plan.longest, memory.as<void>());
  buffers.mma = mma;
  buffers.row = rows.as<const cuda::PrefillRow>();
  buffers.segment = segments.as<const cuda::PrefillSegment>();
  buffers.tile = tiles.as<const cuda::RowTile>();
  buffers.segments = static_cast<int>(plan.segments.size());
  buffers.row_tiles = static_cast<int>(plan.tiles.size());
  buffers.counts = counts.as<cuda::PrefillCounts>();
  x = rounded(x, buffers.activations);
  reset();
}

void PrefillCase::reset() {
  poison(memory.as<void>(), memory.bytes());
  cuda::check(cudaMemset(counts.as<void>(), 0, counts.bytes()), "clearing");
  const Numbers as_stored = padded(x, model.dims.width, model.sizes().stride);
  upload(buffers.x, as_stored);
  upload(buffers.x_operand, as_stored, buffers.activations);
  for (const CaseState& state : states) restore(model, state);
}

std::vector<cuda::Mma> mmas() {
  if (!cuda::has_warpgroups(0)) return {cuda::Mma::warp};
  return {cuda::Mma::warp, cuda::Mma::warpgroup};
}

Numbers with_columns(const KernelModel& model, const Numbers& rows, int columns) {
  return padded(rows, model.dims.neurons, columns);
}

Numbers without_columns(const KernelModel& model, const Numbers& rows, int columns) {
  return unpadded(rows, model.dims.neurons, columns);
}

}  // namespace bdh::test
