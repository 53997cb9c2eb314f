// Any bytes as the index of shards: refused in words, or plain file names.
#include <cstdlib>

#include "bdh/base/error.h"
#include "bdh/formats/shards.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const bdh::fuzz::MemoryFile input(data, size);
  try {
    for (const auto& [tensor, file] : bdh::read_shard_index(input.path()))
      if (file.empty() || file.find('/') != std::string::npos) abort();
  } catch (const bdh::Error&) {
  }
  return 0;
}
