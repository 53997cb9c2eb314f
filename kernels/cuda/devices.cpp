// Asks the CUDA runtime and the driver, and puts their answers in words.
#include "kernels/cuda/devices.h"

#include "bdh/base/error.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

namespace {

constexpr int kOldestMajor = 8;  // compute capability 8.0: cp.async and bfloat16 products
#if defined(BDH_CUDA_SM90A) || defined(BDH_CUDA_EMULATED)
constexpr bool kWarpgroupsBuilt = true;
#else
constexpr bool kWarpgroupsBuilt = false;
#endif
constexpr const char* kRemedy = "; use --device cpu";

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

// 10 times its major number and its minor number.
int capability(int index) {
  require_device(index);
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
        "asking for the capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
        "asking for the capability");
  return 10 * major + minor;
}

}  // namespace

int count_devices() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (status == cudaErrorInsufficientDriver && driver > 0) {
    fail(ErrorKind::unsupported, "the NVIDIA driver supports CUDA ", version_text(driver),
         ", but this build needs ", version_text(runtime), "; update the driver, or use --device cpu");
  }
  if (status == cudaErrorInsufficientDriver || driver == 0)
    fail(ErrorKind::not_found, "there is no NVIDIA driver on this machine", kRemedy);
  if (status == cudaSuccess || status == cudaErrorNoDevice)
    fail(ErrorKind::not_found, "the NVIDIA driver finds no GPU (is CUDA_VISIBLE_DEVICES set?)", kRemedy);
  check(status, "looking for GPUs");
  return 0;
}

void require_device(int index) {
  const int count = count_devices();
  if (index < 0 || index >= count) {
    fail(ErrorKind::not_found, "there is no GPU cuda:", index, ": this machine has ", count,
         ", from cuda:0 on", kRemedy);
  }
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "asking for a GPU's properties");
  check(cudaSetDevice(index), "selecting a GPU");
  const cudaError_t image = kernel_image_status();
  if (properties.major >= kOldestMajor && image == cudaSuccess) return;
  cudaGetLastError();
  fail(ErrorKind::unsupported, "cuda:", index, " (", properties.name, ") has compute capability ",
       properties.major, ".", properties.minor,
       ", for which this build has no code (8.0 and later can be built: make CUDA=all)", kRemedy);
}

bool has_warpgroups(int index) { return kWarpgroupsBuilt && capability(index) == 90; }

bool can_overlap(int index) { return capability(index) >= 90; }

std::string device_name(int index) {
  require_device(index);
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "asking for a GPU's properties");
  return properties.name;
}

std::string why_unusable() {
  try {
    require_device(0);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace bdh::cuda
