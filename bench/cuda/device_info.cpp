// Asks the CUDA runtime and, for what it does not know, nvidia-smi.
#include "bench/cuda/device_info.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "bdh/base/error.h"
#include "kernels/cuda/runtime.h"

namespace bdh::bench {

namespace {

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

// "580.159.04, 1980, 2619"; nothing where nvidia-smi does not answer, or counts GPUs otherwise than CUDA.
std::string ask_nvidia_smi(int index) {
  if (std::getenv("CUDA_VISIBLE_DEVICES")) return {};
  const std::string command =
      concat("nvidia-smi -i ", index,
             " --query-gpu=driver_version,clocks.sm,clocks.mem --format=csv,noheader,nounits 2>/dev/null");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::array<char, 256> line{};
  if (!pipe || !std::fgets(line.data(), static_cast<int>(line.size()), pipe.get())) return {};
  std::string text = line.data();
  return text.substr(0, text.find('\n'));
}

}  // namespace

GpuInfo gpu_info(int index) {
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, index), "asking for a GPU's properties");
  int driver = 0, runtime = 0;
  cuda::check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  cuda::check(cudaRuntimeGetVersion(&runtime), "asking for CUDA's version");
  GpuInfo info{.name = properties.name,
               .capability = concat(properties.major, ".", properties.minor),
               .multiprocessors = properties.multiProcessorCount,
               .l2 = static_cast<double>(properties.l2CacheSize),
               .memory = static_cast<double>(properties.totalGlobalMem),
               .driver = "unknown",
               .cuda = concat(version_text(driver), ", built with ", version_text(runtime)),
               .clocks = "unknown"};
  const std::string answer = ask_nvidia_smi(index);
  const size_t first = answer.find(", "), second = answer.find(", ", first + 1);
  if (second == std::string::npos || first == std::string::npos) return info;
  info.driver = answer.substr(0, first);
  info.clocks =
      concat(answer.substr(first + 2, second - first - 2), " SM, ", answer.substr(second + 2), " memory");
  return info;
}

std::string GpuInfo::text() const {
  return concat(name, ", compute capability ", capability, ", ", multiprocessors, " multiprocessors, L2 ",
                l2 / 1048576, " MB, memory ", static_cast<int64_t>(memory / 1048576), " MB; driver ", driver,
                ", CUDA ", cuda, "; clocks in MHz ", clocks);
}

Json::Object GpuInfo::json() const {
  return {{"name", name}, {"capability", capability}, {"multiprocessors", multiprocessors},
          {"l2", l2},     {"memory", memory},         {"driver", driver},
          {"cuda", cuda}, {"clocks_mhz", clocks}};
}

}  // namespace bdh::bench
