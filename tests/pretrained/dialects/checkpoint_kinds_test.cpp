// What a model loaded from each of many checkpoints says, or why it was not loaded.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "tests/support/models.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::Json;

constexpr int64_t kTokens = 7;

Json logits_of(const fs::path& file) {
  bdh::LoadOptions options;
  options.device = "cpu";
  options.threads = 1;
  const bdh::Model model = bdh::Model::from_weights_file(file, {}, options);
  bdh::Session session(model.weights);
  Json::Array logits;
  for (const float logit : session.read(bdh::test::some_tokens(kTokens, model.config().vocab_size)))
    logits.emplace_back(double{logit});
  return logits;
}

}  // namespace

// Driven by tests/parity/checkpoint_kinds_parity.py, which sets the variable: answers.json, by file names.
TEST_CASE("parity: checkpoints") {
  const char* directory = std::getenv("BDH_PARITY_CHECKPOINTS");
  if (directory == nullptr) return;
  Json::Object answers;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".pt") continue;
    Json answer;
    const bdh::test::Thrown thrown = bdh::test::thrown_by([&] { answer = logits_of(entry.path()); });
    if (thrown.kind) answer = thrown.message;
    answers.emplace_back(entry.path().filename().string(), std::move(answer));
  }
  std::ofstream(fs::path(directory) / "answers.json") << Json(std::move(answers)).dump();
}
