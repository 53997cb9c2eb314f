// The page, as CMake embeds it.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bdh {

/// page.html: its name and contents.
std::vector<std::pair<std::string, std::string>> page_files();

}  // namespace bdh
