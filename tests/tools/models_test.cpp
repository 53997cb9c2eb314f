// `bdh models`: register, list, path, remove, and many at once. Runs the built program.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "bdh/base/json.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"

namespace {

namespace fs = std::filesystem;
using bdh::Json;
using bdh::test::CommandResult;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;

/// Runs `bdh models` with a registry in the folder.
CommandResult models(const TemporaryDirectory& folder, std::vector<std::string> words) {
  words.insert(words.begin(), "models");
  words.insert(words.end(), {"--registry", (folder / "registry.json").string()});
  return run_command(words);
}

std::string version_directory(const TemporaryDirectory& folder, const std::string& version) {
  const fs::path path = folder / "models" / "poet" / version;
  fs::create_directories(path);
  return path.string();
}

}  // namespace

TEST_CASE("bdh models: what is registered is listed and found") {
  const TemporaryDirectory folder;
  const std::string old = version_directory(folder, "v1.9"), recent = version_directory(folder, "v1.10");
  bdh::test::write_file(folder / "metadata.json", R"({"f1": 0.92, "dataset": "none"})");
  REQUIRE(models(folder, {"register", "poet", "v1.10", recent, "--metadata", "dataset=a=b", "--metadata-file",
                          (folder / "metadata.json").string()})
              .exit_code == 0);
  REQUIRE(models(folder, {"register", "poet", "v1.9", old}).exit_code == 0);
  CHECK(models(folder, {"path", "poet"}).out == recent + "\n");
  CHECK(models(folder, {"path", "poet:latest"}).out == recent + "\n");
  CHECK(models(folder, {"path", "poet:v1.9"}).out == old + "\n");
  const Json json = Json::parse(models(folder, {"list", "--json"}).out, "stdout");
  CHECK(json.find("poet")->as_object().front().first == "v1.9");
  CHECK(*json.find("poet")->find("v1.10")->find("metadata") ==
        Json(Json::Object{{"f1", 0.92}, {"dataset", "a=b"}}));
  const std::string text = models(folder, {"list"}).out;
  CHECK(text.find("poet:v1.9 ") < text.find("poet:v1.10  latest"));
  CHECK(models(folder, {"remove", "poet:v1.10"}).exit_code == 0);
  CHECK(models(folder, {"path", "poet"}).out == old + "\n");
}

TEST_CASE("bdh models: twenty at once lose nothing") {
  const TemporaryDirectory folder;
  std::vector<std::thread> writers;
  std::vector<int> codes(20);
  for (int i = 0; i < 20; ++i)
    writers.emplace_back([&folder, &codes, i] {
      const std::string version = "v1." + std::to_string(i);
      codes[i] = models(folder, {"register", "poet", version, version_directory(folder, version)}).exit_code;
    });
  for (std::thread& writer : writers) writer.join();
  CHECK(codes == std::vector<int>(20));
  CHECK(Json::parse(models(folder, {"list", "--json"}).out, "stdout").find("poet")->as_object().size() == 20);
  CHECK(fs::read_symlink(folder / "models" / "poet" / "latest") == "v1.19");
}

TEST_CASE("bdh models: mistakes are one line and an exit code") {
  const TemporaryDirectory folder;
  const struct {
    std::vector<std::string> words;
    int code;
    const char* says;
  } kMistakes[] = {{{"path", "nobody"}, 1, "no model 'nobody'"},
                   {{"register", "a/b", "v1", "/"}, 1, "name"},
                   {{"register", "a", "one", "/"}, 1, "no version"},
                   {{"register", "a", "v1", "/", "--metadata", "novalue"}, 1, "KEY=VALUE"},
                   {{"register", "a", "v1", (folder / "none").string()}, 1, "no such directory"},
                   {{"register", "a"}, 2, "VERSION"},
                   {{"remove", "a"}, 1, "a:VERSION"},
                   {{"frobnicate"}, 2, "bdh models --help"}};
  for (const auto& mistake : kMistakes) {
    const CommandResult result = models(folder, mistake.words);
    CHECK_MESSAGE(result.exit_code == mistake.code, result.err);
    CHECK_MESSAGE(result.err.find(mistake.says) != std::string::npos, result.err);
    CHECK(result.err.find('\n') == result.err.size() - 1);
    CHECK(result.out.empty());
  }
}

TEST_CASE("load_model, the example: describes a model and continues a prompt") {
  const TemporaryDirectory folder;
  bdh::test::write_model(folder.path());
  const CommandResult result =
      bdh::test::run_program(bdh::test::kExample, {folder.path().string(), "ROMEO:"});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(result.out.find("layers 2, embedding dimension 16, heads 2") != std::string::npos);
  const size_t prompt = result.out.find("ROMEO:");
  REQUIRE(prompt != std::string::npos);
  CHECK(result.out.size() > prompt + 20);
  const CommandResult missing = bdh::test::run_program(bdh::test::kExample, {(folder / "none").string()});
  CHECK(missing.exit_code == 1);
  CHECK(missing.err.find("no such file or directory") != std::string::npos);
  CHECK(bdh::test::run_program(bdh::test::kExample, {}).exit_code == 2);
}
