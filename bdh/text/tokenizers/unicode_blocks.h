// Unicode's blocks: ranges of characters with a name.
#pragma once

#include <string_view>

namespace bdh::tokenizers {

struct UnicodeBlock {
  std::string_view name;
  char32_t first, last;
};

/// Null: there is none of that name.
const UnicodeBlock* unicode_block(std::string_view name);

}  // namespace bdh::tokenizers
