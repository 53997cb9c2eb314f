// PyTorch files, in builds with and without the part that reads them: the only place that knows which this
// is.
#include "bdh/pretrained/torch_support.h"

#include "bdh/base/error.h"

namespace bdh {

#ifdef BDH_TORCH

TorchFile open_torch_file(const std::filesystem::path& path) { return TorchFile::open(path); }

void save_torch_file(const std::filesystem::path& path, const TensorMap& tensors) {
  write_torch_file(path, tensors);
}

#else

namespace {

[[noreturn]] void fail_without_torch(const char* what, const std::filesystem::path& path) {
  fail(ErrorKind::unsupported, "cannot ", what, " '", path.string(),
       "': this build has no part for PyTorch files; build bdh where minizip is installed (BDH_TORCH=ON), or "
       "use safetensors");
}

}  // namespace

TorchFile open_torch_file(const std::filesystem::path& path) { fail_without_torch("read", path); }

void save_torch_file(const std::filesystem::path& path, const TensorMap&) {
  fail_without_torch("write", path);
}

#endif

}  // namespace bdh
