// An example: load a model directory, say what it is, continue a prompt.
#include <exception>
#include <iostream>
#include <string>

#include "bdh/bdh.h"

namespace {

void describe(const bdh::Model& model) {
  const bdh::Config& config = model.config();
  std::cout << "layers " << config.n_layer << ", embedding dimension " << config.n_embd << ", heads "
            << config.n_head << ", neurons per head " << config.neurons_per_head() << ", vocabulary "
            << config.vocab_size << "\n"
            << "parameters " << config.parameters() << ", a sequence's state " << config.state_bytes()
            << " bytes\n";
  for (const std::string& warning : model.warnings) std::cerr << "warning: " << warning << "\n";
}

/// Streams the prompt's continuation to standard output.
void continue_text(const bdh::Model& model, const std::string& prompt) {
  if (!model.tokenizer) throw bdh::Error(bdh::ErrorKind::unsupported, "this model has no tokenizer");
  bdh::GenerationConfig generation = model.generation;
  generation.max_new_tokens = 100;
  generation.sampling.temperature = 0.8f;
  generation.sampling.top_k = 50;

  bdh::Session session(model.weights);
  std::cout << prompt;
  bdh::generate(session, *model.tokenizer, prompt, generation,
                [](std::string_view text) { return static_cast<bool>(std::cout << text << std::flush); });
  std::cout << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: load_model DIR [PROMPT]\n";
    return 2;
  }
  try {
    const bdh::Model model = bdh::Model::from_pretrained(argv[1]);
    describe(model);
    continue_text(model, argc == 3 ? argv[2] : "To be or not to be");
    return std::cout ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "load_model: " << error.what() << "\n";
    return 1;
  }
}
