// PyTorch files, in builds with and without the part that reads them: the only place that knows which this
// is.
#include "bdh/pretrained/torch_support.h"

#include "bdh/base/error.h"

namespace bdh {

TorchValue torch_value_of(const Json& json) {
  if (json.is_null()) return nullptr;
  if (json.is_bool()) return json.as_bool();
  if (json.is_string()) return json.as_string();
  if (json.is_array()) {
    TorchList list;
    for (const Json& item : json.as_array()) list.push_back(torch_value_of(item));
    return list;
  }
  if (json.is_object()) {
    TorchDict dict;
    for (const auto& [key, value] : json.as_object()) dict.emplace_back(key, torch_value_of(value));
    return dict;
  }
  const double number = json.as_number();
  if (!json.is_integer() || number >= 0x1p63) return number;
  return json.as_integer();
}

#ifdef BDH_TORCH

TorchFile open_torch_file(const std::filesystem::path& path, TorchParts parts) {
  return TorchFile::open(path, parts);
}

void save_torch_file(const std::filesystem::path& path, const TensorMap& tensors) {
  write_torch_file(path, tensors);
}

void save_torch_value(const std::filesystem::path& path, const TorchValue& value) {
  write_torch_value(path, value);
}

#else

namespace {

[[noreturn]] void fail_without_torch(const char* what, const std::filesystem::path& path) {
  fail(ErrorKind::unsupported, "cannot ", what, " '", path.string(),
       "': this build has no part for PyTorch files; build bdh where minizip is installed (BDH_TORCH=ON), or "
       "use safetensors");
}

}  // namespace

TorchFile open_torch_file(const std::filesystem::path& path, TorchParts) { fail_without_torch("read", path); }

void save_torch_file(const std::filesystem::path& path, const TensorMap&) {
  fail_without_torch("write", path);
}

void save_torch_value(const std::filesystem::path& path, const TorchValue&) {
  fail_without_torch("write", path);
}

#endif

}  // namespace bdh
