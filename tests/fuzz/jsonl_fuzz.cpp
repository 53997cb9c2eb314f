// Any bytes as JSON lines: refused in words that name a line, or texts with rising line numbers.
#include <cstdlib>
#include <string>

#include "bdh/base/error.h"
#include "bdh/train/jsonl.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  int64_t line = 0;
  uint64_t end = 0;
  try {
    bdh::read_json_lines({reinterpret_cast<const char*>(data), size}, "input", "text",
                         [&](const bdh::JsonLine& next) {
                           if (next.number <= line || next.end <= end || next.end > size) abort();
                           if (next.text.size() > size) abort();
                           line = next.number;
                           end = next.end;
                         });
  } catch (const bdh::Error& error) {
    if (std::string(error.what()).find("input, line ") != 0) abort();
  }
  return 0;
}
