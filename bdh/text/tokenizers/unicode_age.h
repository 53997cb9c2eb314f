// Which characters are younger than the Unicode tables that the `tokenizers` package was built with.
#pragma once

namespace bdh::tokenizers {

/// Not assigned in Unicode 8, the version of the package's tables of categories.
bool newer_than_8(char32_t c);
/// Not assigned in Unicode 9, the version of the package's tables of normal forms.
bool newer_than_9(char32_t c);

}  // namespace bdh::tokenizers
