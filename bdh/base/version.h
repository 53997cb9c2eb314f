// This program's version, as CMakeLists.txt has it too.
#pragma once

namespace bdh {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace bdh
