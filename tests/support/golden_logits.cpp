// Reads what the parity script wrote.
#include "tests/support/golden_logits.h"

#include <algorithm>
#include <filesystem>

#include "bdh/base/file.h"
#include "bdh/base/json.h"
#include "tests/support/programs.h"
#include "tests/support/tensors.h"

namespace bdh::test {

namespace {

TensorMap all_tensors(const SafetensorsFile& file) {
  TensorMap out;
  for (const TensorInfo& info : file.tensors()) out[info.name] = file.tensor(info.name);
  return out;
}

Golden load(const std::filesystem::path& directory) {
  const std::filesystem::path config = directory / "config.json";
  Golden golden{directory.filename().string(),
                Config::from_json(Json::parse(read_text(config, 4096), config.string()), config.string()),
                all_tensors(SafetensorsFile::open(directory / "model.safetensors")),
                {},
                SafetensorsFile::open(directory / "golden.safetensors"),
                {}};
  const std::filesystem::path damped = directory / "horizon.safetensors";
  if (std::filesystem::exists(damped)) golden.damped = SafetensorsFile::open(damped);
  const std::vector<int64_t> tokens = values<int64_t>(golden.answers.tensor("tokens"));
  golden.tokens.assign(tokens.begin(), tokens.end());
  return golden;
}

}  // namespace

std::vector<Golden> all_golden() {
  std::vector<Golden> out;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(bdh::test::kTestData) / "logits"))
    out.push_back(load(entry.path()));
  std::sort(out.begin(), out.end(), [](const Golden& a, const Golden& b) { return a.name < b.name; });
  return out;
}

}  // namespace bdh::test
