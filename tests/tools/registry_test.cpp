// The registry: order of versions, the file others read, the link, many writers, and hostile files.
#include "tools/registry/registry.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::ErrorKind;
using bdh::Json;
using bdh::test::TemporaryDirectory;
using bdh::test::thrown_by;
using bdh::test::write_file;
using bdh::tools::compare_versions;
using bdh::tools::ModelRegistry;
using bdh::tools::RegistryEntry;

/// Makes the directory and registers it.
std::vector<std::string> add(ModelRegistry& registry, const TemporaryDirectory& folder,
                             const std::string& name, const std::string& version) {
  const fs::path path = folder / "models" / name / version;
  fs::create_directories(path);
  return registry.add(name, version, path);
}

std::string latest(const TemporaryDirectory& folder, const char* name) {
  return fs::read_symlink(folder / "models" / name / "latest").string();
}

}  // namespace

TEST_CASE("versions: semver.org's order") {
  const char* const kAscending[] = {"anything",
                                    "v0.9",
                                    "1.0.0-alpha",
                                    "1.0.0-alpha.1",
                                    "1.0.0-alpha.beta",
                                    "1.0.0-beta",
                                    "1.0.0-beta.2",
                                    "1.0.0-beta.11",
                                    "1.0.0-rc.1",
                                    "1.0.0",
                                    "v1.0.1-0",
                                    "v1.0.1",
                                    "v1.9",
                                    "v1.10",
                                    "2",
                                    "2.0.0.1",
                                    "10",
                                    "99999999999999999999998",
                                    "99999999999999999999999"};
  const size_t count = std::size(kAscending);
  for (size_t i = 0; i < count; ++i)
    for (size_t j = 0; j < count; ++j)
      CHECK_MESSAGE(compare_versions(kAscending[i], kAscending[j]) == (i < j ? -1 : i > j), kAscending[i],
                    " ", kAscending[j]);
  CHECK(compare_versions("v1.0", "1.0.0") == 0);
  CHECK(compare_versions("1.0.0+a", "1+b") == 0);
  CHECK(compare_versions("v01.0", "1") == 0);
}

TEST_CASE("versions: what is one") {
  for (const char* text : {"1", "v1.0", "1.2.3-rc.1+build.5", "0.0.0", "1.0-x-y"})
    CHECK_MESSAGE(bdh::tools::is_version(text), text);
  for (const char* text : {"", "v", "latest", "1.", ".1", "1..2", "1.x", "1.0-", "1.0-a..b", "1.0+", "-1",
                           "1/2", "1 ", "V1", "1.0-\xc3\xa9"})
    CHECK_MESSAGE(!bdh::tools::is_version(text), text);
}

TEST_CASE("registry: the file has the shape that others read") {
  const TemporaryDirectory folder;
  ModelRegistry registry(folder / "registry.json");
  fs::create_directory(folder / "m");
  CHECK(registry.list().empty());
  CHECK(registry.add("poet", "v1.0", folder / "m", Json::Object{{"dataset", "plays"}}).empty());
  const Json json = Json::parse(bdh::test::read_file(folder / "registry.json"), "");
  const Json& entry = *json.find("poet")->find("v1.0");
  CHECK(entry.as_object().size() == 3);
  CHECK(entry.find("path")->as_string() == (folder / "m").string());
  CHECK(*entry.find("metadata") == Json(Json::Object{{"dataset", "plays"}}));
  CHECK(entry.find("registered_at")->as_string().size() ==
        std::string_view("2026-01-01T00:00:00.000000+00:00").size());
}

TEST_CASE("registry: the newest version is found, listed last and linked") {
  const TemporaryDirectory folder;
  ModelRegistry registry(folder / "registry.json");
  for (const char* version : {"v1.9", "v1.10", "v1.10-rc.1", "v1.0"})
    CHECK(add(registry, folder, "poet", version).empty());
  add(registry, folder, "other", "3");
  std::vector<std::string> names;
  for (const RegistryEntry& entry : registry.list()) names.push_back(entry.name + ":" + entry.version);
  CHECK(names ==
        std::vector<std::string>{"other:3", "poet:v1.0", "poet:v1.9", "poet:v1.10-rc.1", "poet:v1.10"});
  CHECK(registry.find("poet").version == "v1.10");
  CHECK(registry.find("poet", "latest").version == "v1.10");
  CHECK(registry.find("poet", "1.9.0").version == "v1.9");
  CHECK(latest(folder, "poet") == "v1.10");
  registry.remove("poet", "latest");
  CHECK(latest(folder, "poet") == "v1.10-rc.1");
  for (const char* version : {"v1.10-rc.1", "v1.0", "v1.9"}) registry.remove("poet", version);
  CHECK(!fs::exists(fs::symlink_status(folder / "models" / "poet" / "latest")));
  CHECK(registry.list().size() == 1);
  CHECK(fs::exists(folder / "models" / "poet" / "v1.9"));
}

TEST_CASE("registry: a link is set only where NAME/VERSION lies, and never over something else") {
  const TemporaryDirectory folder;
  ModelRegistry registry(folder / "registry.json");
  fs::create_directories(folder / "models" / "poet" / "v1.0" / "final");
  CHECK(registry.add("poet", "v1.0", folder / "models" / "poet" / "v1.0" / "final").empty());
  CHECK(latest(folder, "poet") == "v1.0");
  fs::create_directories(folder / "elsewhere" / "v1.0");
  CHECK(registry.add("loner", "v1.0", folder / "elsewhere" / "v1.0").empty());
  CHECK(!fs::exists(folder / "elsewhere" / "latest"));
  fs::create_directories(folder / "models" / "taken" / "latest");
  const auto warnings = add(registry, folder, "taken", "v1");
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("is no link") != std::string::npos);
  CHECK(fs::is_directory(fs::symlink_status(folder / "models" / "taken" / "latest")));
}

TEST_CASE("registry: what others wrote stays, and relative paths are relative to the file") {
  const TemporaryDirectory folder;
  write_file(
      folder / "registry.json",
      R"({"poet": {"final": {"path": "./m", "metadata": {"f1": 0.92}, "registered_at": "2024-01-01T00:00:00.1", "by": "hand"},
                          "v0.1": {"path": "/x", "metadata": {}}}})");
  ModelRegistry registry(folder / "registry.json");
  CHECK(registry.find("poet").version == "v0.1");
  CHECK(registry.find("poet", "v0.1").registered_at == "unknown");
  CHECK(registry.locate(registry.find("poet", "final")) == folder.path() / "./m");
  add(registry, folder, "poet", "v2");
  const Json json = Json::parse(bdh::test::read_file(folder / "registry.json"), "");
  CHECK(json.find("poet")->find("final")->find("by")->as_string() == "hand");
  CHECK(json.find("poet")->as_object().size() == 3);
}

TEST_CASE("registry: writers at the same time lose nothing") {
  const TemporaryDirectory folder;
  std::vector<std::thread> writers;
  for (int i = 0; i < 20; ++i)
    writers.emplace_back([&folder, i] {
      ModelRegistry registry(folder / "registry.json");
      add(registry, folder, "poet", "v1." + std::to_string(i));
    });
  for (std::thread& writer : writers) writer.join();
  const ModelRegistry registry(folder / "registry.json");
  CHECK(registry.list().size() == 20);
  CHECK(registry.find("poet").version == "v1.19");
  CHECK(latest(folder, "poet") == "v1.19");
}

TEST_CASE("registry: names, versions and paths that cannot be are refused before anything is written") {
  const TemporaryDirectory folder;
  ModelRegistry registry(folder / "registry.json");
  for (const std::string name : {"", ".", "..", "a/b", "a\\b", "a:b", "-a", "a\nb", "a\x7f"})
    CHECK_MESSAGE(
        thrown_by([&] { registry.add(name, "v1", folder.path()); }).kind == ErrorKind::invalid_argument,
        name);
  CHECK(thrown_by([&] { registry.add("a", "latest", folder.path()); }).kind == ErrorKind::invalid_argument);
  CHECK(thrown_by([&] { registry.add("a", "v1", folder / "none"); }).kind == ErrorKind::not_found);
  CHECK(thrown_by([&] { registry.add("a", "v1", folder.path(), Json(7)); }).kind ==
        ErrorKind::invalid_argument);
  CHECK(thrown_by([&] { registry.find("a"); }).kind == ErrorKind::not_found);
  CHECK(thrown_by([&] { registry.remove("a", "v1"); }).kind == ErrorKind::not_found);
  CHECK(!fs::exists(folder / "registry.json"));
  CHECK(thrown_by([&] {
          ModelRegistry(folder / "no" / "registry.json").add("a", "v1", folder.path());
        }).kind == ErrorKind::io);
}

TEST_CASE("registry: hostile files give one clear error and stay as they are") {
  const TemporaryDirectory folder;
  const struct {
    const char* json;
    const char* says;
  } kFiles[] = {{"[]", "must be an object"},
                {"{", "not valid JSON"},
                {R"({"a": 7})", "model 'a'"},
                {R"({"a": {"v1": "path"}})", "version 'v1'"},
                {R"({"a": {"v1": {}}})", "path must be"},
                {R"({"a": {"v1": {"path": 7}}})", "path must be"},
                {R"({"a": {"v1": {"path": ""}}})", "path must be"},
                {R"({"a": {"v1": {"path": "x\ny"}}})", "path must be"},
                {R"({"a": {"v1": {"path": "x", "metadata": []}}})", "metadata must be"},
                {R"({"a": {"v1": {"path": "x", "registered_at": 7}}})", "registered_at must be"},
                {R"({"../a": {}})", "a name must not"},
                {R"({"a\u001b[31m": {}})", "\\x1b"},
                {R"({"a": {"../v": {"path": "x"}}})", "a version must not"},
                {R"({"a": {}, "a": {}})", "twice"}};
  for (const auto& file : kFiles) {
    write_file(folder / "registry.json", file.json);
    ModelRegistry registry(folder / "registry.json");
    for (const auto& thrown : {thrown_by([&] { registry.list(); }), thrown_by([&] { registry.find("a"); }),
                               thrown_by([&] { registry.add("a", "v2", folder.path()); }),
                               thrown_by([&] { registry.remove("a", "v1"); })}) {
      CHECK_MESSAGE(thrown.kind == ErrorKind::bad_file, file.json);
      CHECK_MESSAGE(thrown.says(file.says), thrown.message);
      CHECK_MESSAGE(thrown.says("registry.json"), thrown.message);
      CHECK_MESSAGE(!thrown.says("\n"), thrown.message);
    }
    CHECK(bdh::test::read_file(folder / "registry.json") == file.json);
  }
}
