// What transformers needs: our Python as it stands in the tree, and a config.json with the names it looks
// for.
#include "bdh/pretrained/huggingface.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

using bdh::Config;
using bdh::DType;
using bdh::Json;

/// A tokenizer that is nothing but its files and an eos.
class FileTokenizer : public bdh::Tokenizer {
 public:
  explicit FileTokenizer(bdh::TokenizerFiles files, std::optional<int32_t> eos = {})
      : files_(std::move(files)), eos_(eos) {}
  int64_t vocab_size() const override { return 10; }
  std::vector<int32_t> encode(std::string_view) const override { return {}; }
  std::string decode(std::span<const int32_t>) const override { return {}; }
  std::optional<int32_t> eos() const override { return eos_; }
  bdh::TokenizerFiles files() const override { return files_; }

 private:
  bdh::TokenizerFiles files_;
  std::optional<int32_t> eos_;
};

constexpr const char* kVocabulary =
    R"({"added_tokens": [{"id": 3, "content": "<s>"}, {"id": 4, "content": "</s>"}, {"id": "x", "content": "<pad>"}, 7]})";

}  // namespace

TEST_CASE("huggingface: the embedded files are those in the tree, byte for byte") {
  const std::filesystem::path folder =
      std::filesystem::path(BDH_TEST_DATA) / "../../bdh/pretrained/huggingface";
  size_t python = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    python += entry.path().extension() == ".py";
  const auto files = bdh::huggingface_files();
  CHECK(files.size() == python);
  for (const auto& [name, text] : files) {
    CHECK_MESSAGE(text == bdh::test::read_file(folder / name), name);
    CHECK_MESSAGE(text.size() > 1000, name);
  }
}

TEST_CASE("huggingface: config.json has the six fields first, then what transformers looks for") {
  Config config = bdh::test::tiny_config();
  config.extra = {{"note", "kept"}, {"dtype", "float64"}, {"eos_token_id", 9}};
  const Json json = bdh::huggingface_config(config, DType::bf16, nullptr);
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
  for (const auto& [name, target] : json.find("auto_map")->as_object()) {
    const std::string& text = target.as_string();
    const std::string file = text.substr(0, text.find('.')) + ".py";
    bool found = false;
    for (const auto& [embedded, source] : bdh::huggingface_files())
      found |= embedded == file &&
               source.find("class " + text.substr(text.find('.') + 1) + "(") != std::string::npos;
    CHECK_MESSAGE(found, name);
  }
  CHECK(bdh::test::thrown_by([&] { bdh::huggingface_config(config, DType::i8, nullptr); }).kind ==
        bdh::ErrorKind::unsupported);
}

TEST_CASE("huggingface: special tokens come from the tokenizer's files, as strings or objects") {
  const FileTokenizer tokenizer(
      {{"tokenizer.json", kVocabulary},
       {"tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "pad_token": "<pad>"})"},
       {"special_tokens_map.json", R"({"eos_token": "</s>", "bos_token": "</s>"})"}});
  CHECK(bdh::special_token_ids(&tokenizer) == Json(Json::Object{{"bos_token_id", 3}, {"eos_token_id", 4}}));
  const Json json = bdh::huggingface_config(bdh::test::tiny_config(), DType::f32, &tokenizer);
  CHECK(*json.find("bos_token_id") == Json(3));
  CHECK(*json.find("eos_token_id") == Json(4));
}

TEST_CASE("huggingface: a tokenizer with files that say nothing still gives its eos") {
  CHECK(bdh::special_token_ids(nullptr) == Json(Json::Object{}));
  const FileTokenizer broken({{"tokenizer.json", "{"}, {"tokenizer_config.json", "[1]"}}, 5);
  CHECK(bdh::special_token_ids(&broken) == Json(Json::Object{{"eos_token_id", 5}}));
}
