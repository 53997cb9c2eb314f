// What transformers needs: our Python as it stands in the tree, and a config.json with the names it looks
// for.
#include "bdh/pretrained/huggingface.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

using bdh::Config;
using bdh::DType;
using bdh::Json;

constexpr const char* kVocabulary =
    R"({"added_tokens": [{"id": 3, "content": "<s>"}, {"id": 4, "content": "</s>"}, {"id": "x", "content": "<pad>"}, 7],
         "model": {"vocab": {"<pad>": 6, "<s>": 7}}})";

}  // namespace

TEST_CASE("huggingface: the embedded files are those in the tree, byte for byte") {
  const std::filesystem::path folder =
      std::filesystem::path(bdh::test::kTestData) / "../../bdh/pretrained/huggingface";
  size_t python = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    python += entry.path().extension() == ".py";
  const auto files = bdh::huggingface_files();
  CHECK(files.size() == python);
  for (const auto& file : files) {
    CHECK_MESSAGE(file.second == bdh::test::read_file(folder / file.first), file.first);
    CHECK_MESSAGE(file.second.size() > 1000, file.first);
  }
}

TEST_CASE("huggingface: config.json has the six fields first, then what transformers looks for") {
  Config config = bdh::test::tiny_config();
  config.extra = {{"note", "kept"}, {"dtype", "float64"}, {"eos_token_id", 9}};
  const Json json = bdh::huggingface_config(config, DType::bf16, {});
  const Json::Object& members = json.as_object();
  REQUIRE(members.size() == 13);
  const Json plain = [&] {
    Config fields = config;
    fields.extra.clear();
    return fields.to_json();
  }();
  for (size_t i = 0; i < 6; ++i) CHECK(members[i] == plain.as_object()[i]);
  CHECK(*json.find("model_type") == Json("bdh"));
  CHECK(*json.find("architectures") == Json(Json::Array{"BDHForCausalLM"}));
  CHECK(*json.find("dtype") == Json("bfloat16"));
  CHECK(*json.find("torch_dtype") == Json("bfloat16"));
  CHECK(*json.find("note") == Json("kept"));
  CHECK(*json.find("eos_token_id") == Json(9));
  for (const Json::Member& mapped : json.find("auto_map")->as_object()) {
    const std::string& text = mapped.second.as_string();
    const std::string file = text.substr(0, text.find('.')) + ".py";
    bool found = false;
    for (const auto& [embedded, source] : bdh::huggingface_files())
      found |= embedded == file &&
               source.find("class " + text.substr(text.find('.') + 1) + "(") != std::string::npos;
    CHECK_MESSAGE(found, mapped.first);
  }
  CHECK(bdh::test::thrown_by([&] { bdh::huggingface_config(config, DType::i8, {}); }).kind ==
        bdh::ErrorKind::unsupported);
}

TEST_CASE("huggingface: special tokens come from the tokenizer's files, as strings or objects") {
  const bdh::TokenizerFiles files{
      {"tokenizer.json", kVocabulary},
      {"tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "pad_token": "<pad>"})"},
      {"special_tokens_map.json", R"({"eos_token": "</s>", "bos_token": "</s>"})"}};
  const Json ids(Json::Object{{"bos_token_id", 3}, {"eos_token_id", 4}, {"pad_token_id", 6}});
  CHECK(bdh::special_token_ids(files) == ids);
  const Json json = bdh::huggingface_config(bdh::test::tiny_config(), DType::f32, files);
  for (const auto& [key, id] : ids.as_object()) CHECK(*json.find(key) == id);
  CHECK(*json.find("tokenizer_class") == Json("PreTrainedTokenizerFast"));
}

TEST_CASE("huggingface: files that say nothing give no special tokens") {
  CHECK(bdh::special_token_ids({}) == Json(Json::Object{}));
  const bdh::TokenizerFiles files{
      {"tokenizer.json", "{"},
      {"tokenizer_config.json", R"({"eos_token": "</s>", "bos_token": null, "tokenizer_class": "Own"})"}};
  CHECK(bdh::special_token_ids(files) == Json(Json::Object{}));
  CHECK(bdh::huggingface_config(bdh::test::tiny_config(), DType::f32, files).find("tokenizer_class") ==
        nullptr);
}
