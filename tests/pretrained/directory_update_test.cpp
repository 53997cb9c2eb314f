// DirectoryUpdate: every state that a killed save can leave, and how the next one goes on.
#include "bdh/pretrained/directory_update.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "bdh/base/error.h"
#include "bdh/pretrained/model.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::DirectoryUpdate;
using bdh::ErrorKind;
using bdh::Model;
using bdh::test::read_file;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;
using bdh::test::tiny_config;
using bdh::test::write_file;
using bdh::test::write_model;

constexpr const char* kComplete = ".bdh-save-complete";

/// The tiny model with one layer more, so that it cannot be taken for the other.
bdh::Config other_config() {
  bdh::Config config = tiny_config();
  config.n_layer = 3;
  return config;
}

void check_holds_other(const fs::path& directory) {
  CHECK(Model::from_pretrained(directory).config().n_layer == 3);
  for (const auto& entry : fs::directory_iterator(directory))
    CHECK_MESSAGE(!entry.path().filename().string().starts_with(".bdh"), entry.path().string());
}

void check_completed(const TemporaryDirectory& directory) {
  const Thrown error = thrown_by([&] { Model::from_pretrained(directory.path()); });
  CHECK(error.kind == ErrorKind::not_found);
  CHECK_MESSAGE(error.says("a save was interrupted while it replaced the model"), error.message);
  bdh::complete_interrupted_update(directory.path());
  check_holds_other(directory.path());
}

}  // namespace

TEST_CASE("update: killed while it writes, the old model stands; the next one clears up") {
  TemporaryDirectory directory;
  write_model(directory.path());
  fs::create_directories(directory / ".bdh-save-abcdef");
  write_file(directory / ".bdh-save-abcdef" / "model.safetensors", "half");
  CHECK(Model::from_pretrained(directory.path()).config().n_layer == 2);
  { const DirectoryUpdate update(directory.path()); }
  CHECK_FALSE(fs::exists(directory / ".bdh-save-abcdef"));
  CHECK(Model::from_pretrained(directory.path()).config().n_layer == 2);
}

TEST_CASE("update: killed in a new directory, it is no model and says so") {
  TemporaryDirectory directory;
  fs::create_directories(directory / ".bdh-save-abcdef");
  const Thrown error = thrown_by([&] { Model::from_pretrained(directory.path()); });
  CHECK(error.kind == ErrorKind::not_found);
  CHECK_MESSAGE(error.says("interrupted"), error.message);
}

TEST_CASE("update: killed at each step of commit, it is completed") {
  TemporaryDirectory directory;
  write_model(directory.path());
  write_file(directory / "model.pt", "old");
  write_file(directory / "notes.txt", "mine");
  fs::create_directories(directory / kComplete);
  write_model(directory / kComplete, other_config());
  write_file(directory / kComplete / ".files", "config.json\nmodel.safetensors\n");
  const auto old_config_goes = [&] { fs::remove(directory / "config.json"); };
  const auto old_weights_go = [&] { fs::remove(directory / "model.pt"); };
  const auto new_weights_come = [&] {
    fs::rename(directory / kComplete / "model.safetensors", directory / "model.safetensors");
  };
  SUBCASE("nothing was removed yet: the old model still loads") {
    fs::remove(directory / "model.pt");
    CHECK(Model::from_pretrained(directory.path()).config().n_layer == 2);
    bdh::complete_interrupted_update(directory.path());
  }
  SUBCASE("config.json is gone") {
    old_config_goes();
    check_completed(directory);
  }
  SUBCASE("the old model is gone") {
    old_config_goes(), old_weights_go();
    check_completed(directory);
  }
  SUBCASE("new files have come") {
    old_config_goes(), old_weights_go(), new_weights_come();
    check_completed(directory);
  }
  SUBCASE("all has come") {
    old_config_goes(), old_weights_go(), new_weights_come();
    fs::rename(directory / kComplete / "config.json", directory / "config.json");
    CHECK(Model::from_pretrained(directory.path()).config().n_layer == 3);
    bdh::complete_interrupted_update(directory.path());
  }
  check_holds_other(directory.path());
  CHECK_FALSE(fs::exists(directory / "model.pt"));
  CHECK(read_file(directory / "notes.txt") == "mine");
}

TEST_CASE("update: a list that somebody else wrote moves nothing out of its place") {
  TemporaryDirectory directory;
  fs::create_directories(directory / "model" / kComplete);
  write_model(directory / "model" / kComplete, other_config());
  write_file(directory / "outside", "mine");
  write_file(directory / "model" / kComplete / ".files",
             "config.json\nmodel.safetensors\n../outside\n/etc/passwd\n..\n.\n.git\n\nnone\n");
  bdh::complete_interrupted_update(directory / "model");
  check_holds_other(directory / "model");
  CHECK(read_file(directory / "outside") == "mine");
}

TEST_CASE("update: subdirectories that only look like its own are left alone") {
  TemporaryDirectory directory, elsewhere;
  write_model(directory.path());
  write_model(elsewhere.path(), other_config());
  fs::create_directory_symlink(elsewhere.path(), directory / kComplete);
  fs::create_directories(directory / ".bdh-save-x");
  fs::create_directory_symlink(elsewhere.path(), directory / ".bdh-save-x" / "link");
  { const DirectoryUpdate update(directory.path()); }
  CHECK(Model::from_pretrained(directory.path()).config().n_layer == 2);
  CHECK(Model::from_pretrained(elsewhere.path()).config().n_layer == 3);
  fs::remove(directory / kComplete);
  fs::create_directories(directory / kComplete);  // without a list it is not complete
  write_model(directory / kComplete, other_config());
  { const DirectoryUpdate update(directory.path()); }
  CHECK(Model::from_pretrained(directory.path()).config().n_layer == 2);
}

TEST_CASE("update: two at once are refused") {
  TemporaryDirectory directory;
  const DirectoryUpdate first(directory.path());
  const Thrown error = thrown_by([&] { const DirectoryUpdate second(directory.path()); });
  CHECK(error.kind == ErrorKind::io);
  CHECK_MESSAGE(error.says("another save"), error.message);
  CHECK(fs::is_directory(first.staging()));
}
