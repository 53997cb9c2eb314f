// Chooses among the backends that are built.
#include "kernels/backends.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "bdh/base/error.h"
#include "kernels/cpu/backend.h"
#ifdef BDH_CUDA
#include "kernels/cuda/backend.h"
#include "kernels/cuda/devices.h"
#endif

namespace bdh {

namespace {

// The GPU that "cuda" (0) or "cuda:N" names.
std::optional<int> gpu_index(std::string_view device) {
  if (device == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (!device.starts_with(kPrefix)) return std::nullopt;
  const char* end = device.data() + device.size();
  int index = -1;
  const auto [parsed, error] = std::from_chars(device.data() + kPrefix.size(), end, index);
  if (error != std::errc() || parsed != end || index < 0) return std::nullopt;
  return index;
}

#ifdef BDH_CUDA
bool gpu_runs() { return cuda::why_unusable().empty(); }
int count_gpus() { return cuda::count_devices(); }
std::shared_ptr<Backend> gpu_backend(int index) { return cuda::make_backend(index); }
#else
bool gpu_runs() { return false; }
int count_gpus() { return 0; }
std::shared_ptr<Backend> gpu_backend(int index) {
  fail(ErrorKind::unsupported, "device 'cuda:", index,
       "': this build has no CUDA backend; use --device cpu, or build with make CUDA=all");
}
#endif

}  // namespace

std::shared_ptr<Backend> make_backend(const std::string& device, int threads) {
  if (const std::optional<int> index = gpu_index(device)) return gpu_backend(*index);
  if (device == "auto" && gpu_runs()) return gpu_backend(0);
  if (device == "auto" || device == "cpu") return cpu::make_backend({threads, {}});
  fail(ErrorKind::invalid_argument, "device must be auto, cpu, cuda or cuda:N, not '", device, "'");
}

int usable_gpus() { return gpu_runs() ? count_gpus() : 0; }

}  // namespace bdh
