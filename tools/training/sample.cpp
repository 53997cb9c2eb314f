// Generating a sample.
#include "tools/training/sample.h"

#include "bdh/text/generation.h"

namespace bdh::tools {

std::string sample_text(const Config& config, const TensorMap& weights,
                        const std::shared_ptr<Backend>& backend, const Tokenizer& tokenizer,
                        const TrainOptions& options, const std::function<bool()>& stop) {
  const auto model = std::make_shared<const Weights>(config, weights, backend);
  Session session(model, {.horizon = options.horizon});
  Session* const sessions[] = {&session};
  const std::string prompts[] = {options.sample_prompt.empty() ? "\n" : options.sample_prompt};
  GenerationConfig generation;
  generation.max_new_tokens = options.sample_tokens;
  generation.sampling.seed = options.seed;
  GenerationCallbacks callbacks;
  callbacks.on_text = [&](size_t, std::string_view) { return !stop(); };
  return options.sample_prompt + generate(sessions, tokenizer, prompts, generation, callbacks).texts[0].text;
}

}  // namespace bdh::tools
