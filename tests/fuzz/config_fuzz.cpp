// Any bytes as config.json or generation_config.json: refused in words, or what was read is written and read
// again the same.
#include <cstdlib>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/model/config.h"
#include "bdh/text/generation_config.h"

namespace {

template <class Parsed>
void check(const bdh::Json& json) {
  try {
    const bdh::Json written = Parsed::from_json(json, "input").to_json();
    const bdh::Json again =
        Parsed::from_json(bdh::Json::parse(written.dump(2), "written"), "written").to_json();
    if (again.dump() != written.dump()) abort();
  } catch (const bdh::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bdh::Json json;
  try {
    json = bdh::Json::parse({reinterpret_cast<const char*>(data), size}, "input");
  } catch (const bdh::Error&) {
    return 0;
  }
  check<bdh::Config>(json);
  check<bdh::GenerationConfig>(json);
  return 0;
}
