// Adapters' memory.
#include "kernels/adapter.h"

#include <algorithm>

#include "bdh/base/memory.h"

namespace bdh {

AdapterRows::AdapterRows(int64_t rows, int64_t width)
    : stride((width + kRowPadding - 1) / kRowPadding * kRowPadding) {
  const std::shared_ptr<std::byte> memory =
      allocate_zeroed(static_cast<size_t>(rows * stride) * sizeof(float), "an adapter");
  data = {memory, reinterpret_cast<float*>(memory.get())};
}

int64_t Adapter::most_rank() const {
  int64_t most = 0;
  for (const LayerAdapter& layer : layers)
    most = std::max({most, layer.encoder.rank, layer.encoder_v.rank, layer.decoder.rank});
  return most;
}

}  // namespace bdh
