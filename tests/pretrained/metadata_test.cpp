// metadata.json: read, written, and the hashes checked.
#include "bdh/pretrained/metadata.h"

#include <doctest/doctest.h>

#include <string>

#include "bdh/base/error.h"
#include "bdh/pretrained/model.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

using bdh::ErrorKind;
using bdh::Json;
using bdh::Model;
using bdh::test::read_file;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;
using bdh::test::write_file;
using bdh::test::write_model;

Thrown verify(const TemporaryDirectory& directory) {
  bdh::LoadOptions options;
  options.verify = true;
  return thrown_by([&] { Model::from_pretrained(directory.path(), options); });
}

/// The tiny model, saved with its hashes.
void save_model(const TemporaryDirectory& directory) {
  TemporaryDirectory source;
  write_model(source.path());
  Model::from_pretrained(source.path()).save_pretrained(directory.path());
}

}  // namespace

TEST_CASE("metadata: any JSON object is read, and written back") {
  const std::string text =
      R"({"format_version": 1, "bdh_version": "0.1.0", "created": "2026-01-01T00:00:00Z", )"
      R"("weights": [{"file": "model.pt", "bytes": 7, "sha256": "ab"}], "base_model": "x", "metrics": {"loss": 1}})";
  const auto metadata = bdh::ModelMetadata::from_json(Json::parse(text, "t"), "t");
  CHECK(metadata.weights.at(0).bytes == 7);
  CHECK(metadata.details.size() == 2);
  CHECK(metadata.to_json().dump() == text);
  CHECK(bdh::ModelMetadata::from_json(Json::Object{}, "t").weights.empty());
  for (const char* bad :
       {"[]", "3", R"({"weights":{}})", R"({"weights":[1]})", R"({"weights":[{"file":"a"}]})",
        R"({"weights":[{"file":"a","bytes":-1,"sha256":""}]})", R"({"created":1})"}) {
    const Thrown error =
        thrown_by([&] { bdh::ModelMetadata::from_json(Json::parse(bad, "t"), "metadata.json"); });
    CHECK_MESSAGE(error.kind == ErrorKind::bad_file, bad);
    CHECK_MESSAGE(error.says("metadata.json"), bad);
  }
}

TEST_CASE("metadata: a broken one is told when loading, and no more") {
  TemporaryDirectory directory;
  write_model(directory.path());
  write_file(directory / "metadata.json", "{");
  CHECK(Model::from_pretrained(directory.path()).warnings.size() == 1);
  write_file(directory / "metadata.json", R"({"format_version": 9})");
  CHECK(Model::from_pretrained(directory.path()).warnings.size() == 1);
  write_file(directory / "metadata.json", R"({"timestamp": "2025", "base_model": null})");
  const Model model = Model::from_pretrained(directory.path());
  CHECK(model.warnings.empty());
  CHECK(model.details.find("timestamp")->as_string() == "2025");
}

TEST_CASE("metadata: a changed byte is found when asked to verify") {
  TemporaryDirectory directory;
  save_model(directory);
  CHECK_FALSE(verify(directory).kind);
  std::string bytes = read_file(directory / "model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(directory / "model.safetensors", bytes);
  const Thrown changed = verify(directory);
  CHECK(changed.kind == ErrorKind::bad_file);
  CHECK_MESSAGE(changed.says("its sha256 is"), changed.message);
  CHECK_NOTHROW(Model::from_pretrained(directory.path()));
}

TEST_CASE("metadata: files that it does not know or that are longer cannot be verified") {
  TemporaryDirectory directory;
  save_model(directory);
  write_file(directory / "metadata.json", R"({"weights": []})");
  CHECK(verify(directory).says("has no sha256 of it"));
  write_file(directory / "metadata.json",
             R"({"weights": [{"file": "model.safetensors", "bytes": 3, "sha256": ""}]})");
  CHECK(verify(directory).says("says 3"));
  std::filesystem::remove(directory / "metadata.json");
  CHECK(verify(directory).kind == ErrorKind::not_found);
}
