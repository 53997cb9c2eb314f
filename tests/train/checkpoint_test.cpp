// Checkpoints on disk: everything comes back, and every damage is found.
#include "bdh/train/checkpoint.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "bdh/formats/safetensors.h"
#include "bdh/pretrained/model.h"
#include "tests/support/backends.h"
#include "tests/support/checkpoints.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/models.h"
#include "tests/support/soak.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::Checkpoint;
using bdh::DType;
using bdh::ErrorKind;
using bdh::Json;
using bdh::read_checkpoint;
using bdh::RunState;
using bdh::write_checkpoint;
using bdh::test::checkpoint_at;
using bdh::test::read_file;
using bdh::test::same_checkpoint;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;
using bdh::test::unless_slow;
using bdh::test::write_file;

Thrown reading(const fs::path& file) {
  return thrown_by([&] { read_checkpoint(file); });
}

size_t header_bytes(const std::string& bytes) {
  return 8 + static_cast<unsigned char>(bytes[0]) + 256 * static_cast<unsigned char>(bytes[1]);
}

/// What write_checkpoint would write, with one entry of the metadata replaced.
fs::path with_metadata(const TemporaryDirectory& folder, const std::string& key, const std::string& value) {
  const fs::path whole = folder / "whole.safetensors";
  fs::path changed = folder / "changed.safetensors";
  write_checkpoint(whole, checkpoint_at(1));
  const bdh::SafetensorsFile file = bdh::SafetensorsFile::open(whole);
  bdh::TensorMap tensors;
  for (const bdh::TensorInfo& info : file.tensors()) tensors[info.name] = file.tensor(info.name);
  bdh::Metadata metadata = file.metadata();
  metadata[key] = value;
  write_safetensors(changed, tensors, metadata);
  return changed;
}

}  // namespace

TEST_CASE("checkpoint: everything comes back bit for bit") {
  const TemporaryDirectory folder;
  const fs::path file = folder / "checkpoint_latest.safetensors";
  Checkpoint checkpoint = checkpoint_at(7);
  checkpoint.metric = 1.0 / 7;
  checkpoint.carried["0"] = bdh::test::patterned(DType::f32, {2, 1, 2, 4, 3});
  RunState& state = checkpoint.state;
  state.loss_scale = 65536;
  state.best = std::nextafter(1.5, 2.0);
  state.carried_position = 12;
  state.statistics = Json::parse(R"({"mean": 0.1, "worst": NaN, "list": [1, 2.5]})", "test");
  state.options = Json::parse(R"({"name": "gr\u00f6\u00dfe"})", "test");
  state.started = "2026-11-28T12:00:00Z";
  write_checkpoint(file, checkpoint);
  const Checkpoint read = read_checkpoint(file);
  CHECK(same_checkpoint(read, checkpoint));
  CHECK(read.state.seed == 0xfedcba9876543210);
  CHECK(read.state.carried_position == 12);
  CHECK(std::isnan(read.state.statistics.find("worst")->as_number()));
  CHECK(read.metric == 1.0 / 7);
  const bdh::CheckpointHeader header = bdh::read_checkpoint_header(file);
  CHECK(header.state.to_json().dump() == read.state.to_json().dump());
  CHECK(header.metric == 1.0 / 7);
}

TEST_CASE("checkpoint: without average, metric and best") {
  const TemporaryDirectory folder;
  Checkpoint checkpoint = checkpoint_at(1);
  checkpoint.ema.clear();
  checkpoint.state.best.reset();
  write_checkpoint(folder / "a.safetensors", checkpoint);
  CHECK(same_checkpoint(read_checkpoint(folder / "a.safetensors"), checkpoint));
}

TEST_CASE("checkpoint: the .meta.json says what the header says, and is of no matter") {
  const TemporaryDirectory folder;
  const fs::path file = folder / "checkpoint_best_f1.5.safetensors", meta = bdh::meta_file_of(file);
  CHECK(meta.filename() == "checkpoint_best_f1.5.meta.json");
  write_checkpoint(file, checkpoint_at(3));
  const Json json = Json::parse(read_file(meta), "meta");
  CHECK(json.find("step")->as_integer() == 3);
  CHECK(json.find("tensors")->as_string() == "checkpoint_best_f1.5.safetensors");
  CHECK(json.find("tensors_sha256")->as_string().size() == 64);
  CHECK(json.find("config")->find("n_layer")->as_integer() == 2);
  write_file(meta, "{");
  CHECK(read_checkpoint(file).state.step == 3);
  bdh::update_meta_file(file);
  CHECK(Json::parse(read_file(meta), "meta") == json);
  fs::remove(meta);
  write_checkpoint(file, checkpoint_at(4));
  CHECK(Json::parse(read_file(meta), "meta").find("step")->as_integer() == 4);
}

TEST_CASE("checkpoint: its file is a model too, with its config in it") {
  const TemporaryDirectory folder;
  write_checkpoint(folder / "checkpoint_latest.safetensors", checkpoint_at(3));
  const bdh::Model model = bdh::Model::from_pretrained(folder / "checkpoint_latest.safetensors");
  CHECK(model.config().to_json() == bdh::test::tiny_config().to_json());
  CHECK(model.warnings.empty());
  CHECK(model.metadata.empty());
  CHECK(bdh::test::same_bits(model.weights->state_dict().at("encoder"),
                             checkpoint_at(3).weights.at("encoder")));
}

TEST_CASE("checkpoint: cut anywhere in the header, and in the tensors, it is refused") {
  const TemporaryDirectory folder;
  write_checkpoint(folder / "whole.safetensors", checkpoint_at(2));
  const std::string bytes = read_file(folder / "whole.safetensors");
  const size_t header = header_bytes(bytes);
  const fs::path cut = folder / "cut.safetensors";
  for (size_t length = 0; length < bytes.size(); length += length < header ? 1 : 997) {
    write_file(cut, bytes.substr(0, length));
    const Thrown error = reading(cut);
    CAPTURE(length);
    REQUIRE(error.kind == ErrorKind::bad_file);
    REQUIRE(error.says("cut.safetensors"));
  }
}

// A bit of the padding, or of a metadata key that says nothing, may change.
TEST_CASE("checkpoint: a flipped bit is found, or changes nothing") {
  const TemporaryDirectory folder;
  const Checkpoint checkpoint = checkpoint_at(2);
  write_checkpoint(folder / "whole.safetensors", checkpoint);
  const std::string bytes = read_file(folder / "whole.safetensors");
  const size_t header = header_bytes(bytes);
  const fs::path flipped = folder / "flipped.safetensors";
  const auto step = static_cast<size_t>(std::max(1, 1999 / bdh::test::rounds(1)));
  const auto in_header = unless_slow<size_t>(3, 29);
  size_t found = 0, tried = 0;
  for (size_t at = 0; at < bytes.size(); at += at < header ? in_header : step, ++tried) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 1 << (at % 8));
    write_file(flipped, changed);
    try {
      CAPTURE(at);
      const Checkpoint read = read_checkpoint(flipped);
      REQUIRE(at < header);
      REQUIRE(same_checkpoint(read, checkpoint));
    } catch (const bdh::Error&) {
      ++found;
    }
  }
  CHECK(found > tried * 9 / 10);
}

TEST_CASE("checkpoint: what is none, and what contradicts itself, is named") {
  const TemporaryDirectory folder;
  bdh::write_safetensors(folder / "model.safetensors", checkpoint_at(1).weights, {{"format", "pt"}});
  const Thrown model = reading(folder / "model.safetensors");
  CHECK(model.kind == ErrorKind::bad_file);
  CHECK_MESSAGE(model.says("no checkpoint of a training run"), model.message);
  CHECK(reading(folder / "none.safetensors").kind == ErrorKind::not_found);
  const Thrown later = reading(with_metadata(folder, "bdh.checkpoint_version", "2"));
  CHECK(later.kind == ErrorKind::unsupported);
  CHECK(reading(with_metadata(folder, "bdh.checkpoint_version", "x")).kind == ErrorKind::bad_file);
  const Thrown run = reading(with_metadata(folder, "bdh.run", "{}"));
  CHECK_MESSAGE(run.says("state differ from their hash"), run.message);
  const Thrown tensors = reading(with_metadata(folder, "bdh.tensors_sha256", "0"));
  CHECK_MESSAGE(tensors.says("tensors differ from their hash"), tensors.message);
}

TEST_CASE("checkpoint: tensors that training cannot go on from are not written") {
  const TemporaryDirectory folder;
  const auto refused = [&](const Checkpoint& checkpoint, std::string_view reason) {
    const Thrown error = thrown_by([&] { write_checkpoint(folder / "a.safetensors", checkpoint); });
    CHECK(error.kind == ErrorKind::invalid_argument);
    CHECK_MESSAGE(error.says(reason), error.message);
    CHECK_FALSE(fs::exists(folder / "a.safetensors"));
  };
  Checkpoint checkpoint = checkpoint_at(1);
  SUBCASE("another type") {
    checkpoint.weights["encoder"] = bdh::converted(checkpoint.weights["encoder"], DType::bf16);
    refused(checkpoint, "is not float32");
  }
  SUBCASE("another shape") {
    checkpoint.exp_avg["encoder"] = checkpoint.exp_avg["decoder"];
    refused(checkpoint, "another shape");
  }
  SUBCASE("one moment without the other") {
    checkpoint.exp_avg_sq.erase("encoder");
    refused(checkpoint, "'exp_avg_sq.encoder' is missing");
  }
  SUBCASE("an average of no tensor") {
    checkpoint.ema["other"] = checkpoint.ema["encoder"];
    refused(checkpoint, "belongs to no tensor");
  }
  SUBCASE("two of the same name") {
    checkpoint.weights["ema.encoder"] = checkpoint.weights["encoder"];
    refused(checkpoint, "two tensors");
  }
}

TEST_CASE("checkpoint: on a full disk the old one stays") {
  const TemporaryDirectory folder;
  const fs::path file = folder / "checkpoint_latest.safetensors";
  write_checkpoint(file, checkpoint_at(1));
  {
    const bdh::test::FileSizeLimit limit(20'000);
    const Thrown error = thrown_by([&] { write_checkpoint(file, checkpoint_at(2)); });
    CHECK(error.kind == ErrorKind::io);
  }
  CHECK(read_checkpoint(file).state.step == 1);
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 2);
}

TEST_CASE("checkpoint: a state of other JSON is refused by key") {
  const Json good = checkpoint_at(1).state.to_json();
  CHECK(RunState::from_json(good, "state").to_json() == good);
  const struct {
    const char* key;
    Json value;
  } cases[] = {{"step", -1},
               {"step", "1"},
               {"step", 1.5},
               {"tokens", nullptr},
               {"seed", -1},
               {"seed", 0.5},
               {"seconds", "0"},
               {"data_hash", 1},
               {"best", "better"},
               {"carried_position", -2},
               {"source", Json::Array{}}};
  for (const auto& [key, value] : cases) {
    Json changed = good;
    changed.set(key, value);
    const Thrown error = thrown_by([&] { RunState::from_json(changed, "state"); });
    CHECK(error.kind == ErrorKind::bad_file);
    CHECK_MESSAGE(error.says(std::string("'") + key + "'"), error.message);
  }
  CHECK(thrown_by([&] { RunState::from_json(Json::Object{}, "state"); }).says("'step': it is missing"));
  CHECK(thrown_by([&] { RunState::from_json(3, "state"); }).kind == ErrorKind::bad_file);
}
