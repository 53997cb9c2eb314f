// A directory is PEFT's, a file has matrices by head.
#include "bdh/pretrained/adapters/load_adapter.h"

#include <system_error>

#include "bdh/base/error.h"
#include "bdh/pretrained/adapters/by_head.h"
#include "bdh/pretrained/adapters/peft.h"

namespace bdh {

LoraAdapter load_adapter(const std::filesystem::path& path, const Config& config) {
  std::error_code none;
  if (!std::filesystem::exists(path, none))
    fail(ErrorKind::not_found, path.string(), ": no adapter is there");
  return std::filesystem::is_directory(path, none) ? load_peft_adapter(path, config)
                                                   : load_head_adapter(path, config);
}

}  // namespace bdh
