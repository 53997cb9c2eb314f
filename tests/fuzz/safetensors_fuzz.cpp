// Any bytes as a safetensors file: refused in words, or every tensor it names can be read.
#include "bdh/formats/safetensors.h"

#include "bdh/base/error.h"
#include "tests/fuzz/memory_file.h"

namespace {

volatile unsigned sink;

void read_whole(const bdh::SafetensorsFile& file) {
  for (const bdh::TensorInfo& info : file.tensors()) {
    if (!info.usable()) continue;
    const bdh::Tensor tensor = file.tensor(info.name);
    unsigned sum = 0;
    for (size_t i = 0; i < tensor.bytes(); ++i) sum += static_cast<unsigned>(tensor.data[i]);
    sink = sum;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const bdh::fuzz::MemoryFile input(data, size);
  try {
    read_whole(bdh::SafetensorsFile::open(input.path()));
  } catch (const bdh::Error&) {
  }
  return 0;
}
