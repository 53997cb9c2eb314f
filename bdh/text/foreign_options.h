// Generation options of Hugging Face that bdh does not have: which of them change the text.
#pragma once

#include <string>
#include <vector>

#include "bdh/base/json.h"

namespace bdh {

/// Throws Error(unsupported) naming the first key with which transformers would write another text.
void refuse_foreign_options(const Json::Object& options);

/// What else has no effect here, a sentence each.
std::vector<std::string> ignored_options(const Json::Object& options);

}  // namespace bdh
