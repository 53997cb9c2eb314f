// A sample of text from weights that are being trained.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bdh/model/config.h"
#include "bdh/text/tokenizer.h"
#include "bdh/train/options.h"
#include "kernels/backend.h"

namespace bdh::tools {

/// What the model makes of options.sample_prompt, the prompt included: the same every time for the same
/// weights. Ends early where `stop` says so.
std::string sample_text(const Config& config, const TensorMap& weights,
                        const std::shared_ptr<Backend>& backend, const Tokenizer& tokenizer,
                        const TrainOptions& options, const std::function<bool()>& stop);

}  // namespace bdh::tools
