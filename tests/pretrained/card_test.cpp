// The model card: true numbers, nothing invented, and front matter and tables that hold whatever the words
// are.
#include "bdh/pretrained/card.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/pretrained/card_text.h"
#include "tests/support/models.h"

namespace {

using bdh::CardFacts;
using bdh::Json;
using bdh::markdown_text;
using bdh::yaml_scalar;

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// A model of which nothing is known but its sizes.
CardFacts bare_facts() {
  CardFacts facts;
  facts.config = bdh::test::tiny_config();
  return facts;
}

std::string front_matter(const std::string& card) {
  REQUIRE(card.starts_with("---\n"));
  const size_t end = card.find("\n---\n", 3);
  REQUIRE(end != std::string::npos);
  return card.substr(4, end - 3);
}

constexpr const char* kHostile[] = {"---",
                                    "a: b",
                                    "line\nbreak\n---\n# x",
                                    "quote\" and \\",
                                    "| cell | <script>",
                                    "\x01\x7f",
                                    "\xe2\x80\xa8",
                                    "\xff\xfe",
                                    "#x",
                                    "",
                                    "- a",
                                    "`code`",
                                    "*bold* [link](x)",
                                    "{{ jinja }}",
                                    "\xf0\x9f\xa6\x89 \xd1\x8f"};

}  // namespace

TEST_CASE("card: the numbers are those of the default model") {
  CardFacts facts;
  facts.name = "default";
  const std::string card = bdh::model_card(facts);
  for (const char* part :
       {"| parameters | 25,296,896 |", "8,192 per head, 32,768 in all",
        "| `decoder` | (32768, 256) | 8,388,608 |", "| `encoder` | (4, 256, 8192) | 8,388,608 |",
        "| `encoder_v` | (4, 256, 8192) | 8,388,608 |", "| `lm_head` | (256, 256) | 65,536 |",
        "| `embed.weight` | (256, 256) | 65,536 |", "none; a buffer of 8,192 float32",
        "| all |  | 25,296,896 |", "| float32 | 101,220,352 bytes", "| bfloat16 | 50,626,560 bytes",
        "| float16 | 50,626,560 bytes", "201,326,592 bytes", "2509.26507"})
    CHECK_MESSAGE(has(card, part), std::string(part));
}

TEST_CASE("card: what is unknown is left out") {
  const std::string card = bdh::model_card(bare_facts());
  CHECK(front_matter(card) == "library_name: bdh\npipeline_tag: text-generation\ntags:\n- bdh\n");
  for (const char* part : {"## Training", "## Metrics", "## Provenance", "## Sparsity", "Trained on",
                           "Made from", "tokenizer", "transformers\n", "written by", "null", "load_file"})
    CHECK_MESSAGE(!has(card, part), std::string(part));
  CHECK(has(card, "bdh logits"));
  CHECK(has(card, "bdh_session_read(session"));
}

TEST_CASE("card: what is known stands in front matter and sections") {
  CardFacts facts = bare_facts();
  facts.name = "poet";
  facts.tokenizer = "bytes";
  facts.huggingface = true;
  facts.program_version = "1.2.3";
  facts.weights_files = {"model.safetensors"};
  facts.training_args = Json::parse(
      R"({"max_iters": 50000, "optimizer": {"name": "adamw", "lr": 0.001}, "dataset_name": "wikitext-103", "seed": null})",
      "");
  facts.details = Json::parse(
      R"({"license": "MIT", "language": ["en", "no"], "tags": ["plays", "bdh"], "base_model": "someone/base",
          "metrics": {"loss": 2.34}, "provenance": {"commit": "abc|def"},
          "sparsity": {"tokens": 700, "layers": [{"n": 0.25, "pairs": 0.4, "v": 0.3, "g": 0.0512}]}})",
      "");
  const std::string card = bdh::model_card(facts);
  CHECK(front_matter(card) ==
        "language:\n- en\n- \"no\"\nlicense: mit\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        "tags:\n- bdh\n- byte-level\n- plays\ndatasets:\n- wikitext-103\nbase_model:\n- someone/base\n");
  for (const char* part :
       {"# poet\n", "Trained on: wikitext-103\n", "Made from: someone/base\n", "| `max_iters` | 50000 |",
        "| `optimizer.lr` | 0.001 |", "| `loss` | 2.34 |", "| `commit` | abc\\|def |",
        "| 0 | 25.0 % | 40.0 % | 30.0 % | 5.1 % |", "over 700 tokens", "trust_remote_code=True",
        "load_file(\"path/to/model/model.safetensors\")", "bdh generate path/to/model", "find_package(bdh)",
        "bdh_generate(session", "written by bdh 1.2.3"})
    CHECK_MESSAGE(has(card, part), std::string(part));
  CHECK(!has(card, "`seed`"));
}

TEST_CASE("card: usage follows the weights files and the tokenizer") {
  CardFacts facts = bare_facts();
  facts.huggingface = true;
  facts.tokenizer = "BPE";
  facts.weights_files = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  std::string card = bdh::model_card(facts);
  CHECK(has(card, "AutoTokenizer"));
  CHECK(has(card, "| tokenizer | BPE |"));
  CHECK(has(card, "model-*.safetensors"));
  facts.weights_files = {"model.pt"};
  facts.huggingface = false;
  card = bdh::model_card(facts);
  CHECK(has(card, "torch.load(\"path/to/model/model.pt\", weights_only=True)"));
  CHECK(!has(card, "AutoTokenizer"));
  facts.weights_files = {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"};
  CHECK(has(bdh::model_card(facts), "glob(\"pytorch_model-*.bin\")"));
  facts.weights_files = {"x\"; import os.pt"};
  CHECK(!has(bdh::model_card(facts), "import os"));
}

TEST_CASE("card: weights for each layer") {
  CardFacts facts;
  facts.config.tie_layers = false;
  facts.weights_files = {"model.safetensors"};
  facts.huggingface = true;
  const std::string card = bdh::model_card(facts);
  for (const char* part :
       {"layers with weights of their own", "| weights | each layer has its own |",
        "| parameters | 151,126,016 |", "| `decoder.0` to `decoder.5` | (32768, 256) | 8,388,608 each |",
        "| `encoder_v.0` to `encoder_v.5` | (4, 256, 8192) | 8,388,608 each |",
        "| `attn.freqs` | (1, 1, 1, 8192) | none; a buffer", "| float32 | 604,536,832 bytes",
        "trust_remote_code=True"})
    CHECK_MESSAGE(has(card, part), std::string(part));
  CHECK_FALSE(has(card, "`decoder.1`"));
  CHECK_FALSE(has(card, "from bdh import"));  // the authors' code has no such model
  facts.config.n_layer = 1;
  CHECK(has(bdh::model_card(facts), "| `encoder.0` | (4, 256, 8192) | 8,388,608 |"));
}

TEST_CASE("card: a license that the Hub does not know is other, with its name") {
  CardFacts facts = bare_facts();
  facts.details =
      Json::Object{{"license", "Ours: ask\nfirst"}, {"datasets", Json::Array{"plays of 1600", "a/b", 7}}};
  CHECK(front_matter(bdh::model_card(facts)) ==
        "license: other\nlicense_name: \"Ours: ask\\u000afirst\"\nlibrary_name: bdh\n"
        "pipeline_tag: text-generation\ntags:\n- bdh\ndatasets:\n- a/b\n");
  CHECK(has(bdh::model_card(facts), "Trained on: plays of 1600, a/b\n"));
}

TEST_CASE("card: hostile words change neither front matter nor tables") {
  const std::string plain = bdh::model_card(bare_facts());
  const auto pipes = [](const std::string& card) {
    size_t rows = 0;
    for (size_t at = card.find("\n|"); at != std::string::npos; at = card.find("\n|", at + 1)) ++rows;
    return rows;
  };
  for (const std::string word : kHostile) {
    CardFacts facts = bare_facts();
    facts.name = facts.tokenizer = word;
    facts.details = Json::Object{};
    for (const char* key : {"license", "license_name", "license_link", "language", "datasets", "tags",
                            "base_model", "description", "training", "metrics", "provenance", "sparsity"})
      facts.details.set(key, word);
    facts.training_args.set("key " + word, word);
    const std::string card = bdh::model_card(facts);
    const std::string front = front_matter(card);
    CHECK(std::count(front.begin(), front.end(), '\n') <= 16);
    CHECK(pipes(card) == pipes(plain) + 3 + (word.empty() ? 0 : 1));
    CHECK(!has(card.substr(front.size()), "<script>"));
  }
}

TEST_CASE("card: what training measured, its picture and the command") {
  CardFacts facts = bare_facts();
  facts.details = Json::parse(
      R"({"training": {"steps": 30, "loss": 1.5, "best": {"step": 20}, "command": "bdh train --out a"}})",
      "");
  facts.training_args = Json::parse(R"({"block_size": 64})", "");
  std::string card = bdh::model_card(facts);
  CHECK(has(
      card,
      "\n## Training\n\n|  |  |\n| --- | --- |\n| `steps` | 30 |\n| `loss` | 1.5 |\n| `best.step` | 20 |\n\n"
      "Made by this command:\n\n```sh\nbdh train --out a\n```\n\nOptions:\n\n|  |  |\n| --- | --- |\n"
      "| `block_size` | 64 |\n"));
  facts.picture = "training.svg";
  card = bdh::model_card(facts);
  CHECK(has(card, "| `best.step` | 20 |\n\n![Loss by step](training.svg)\n\nMade by"));
  facts.details = facts.training_args = Json();
  CHECK(has(bdh::model_card(facts), "\n## Training\n\n![Loss by step](training.svg)\n\n## Usage"));
}

TEST_CASE("card: a command stays inside its fence") {
  CardFacts facts = bare_facts();
  for (const std::string command : {"bdh train --name '```\n# x\n'", "a ````` b", "a\x01\xff\nb"}) {
    facts.details = Json::Object{{"training", Json::Object{{"command", command}}}};
    const std::string card = bdh::model_card(facts);
    const size_t begin = card.find("Made by this command:\n\n") + 23;
    const std::string fence = card.substr(begin, card.find_first_not_of('`', begin) - begin);
    const size_t line = card.find('\n', begin) + 1, end = card.find('\n', line);
    CHECK(card.compare(begin + fence.size(), 3, "sh\n") == 0);
    CHECK(card.compare(end + 1, fence.size() + 1, fence + "\n") == 0);
    CHECK(card.substr(line, end - line).find(fence) == std::string::npos);
  }
}

TEST_CASE("card: values of any type are no error") {
  for (const char* json :
       {"null", "7", "[]", "\"x\"", R"({"license": 7, "tags": {"a": 1}, "sparsity": {"layers": [1]}})",
        R"({"sparsity": {"layers": [{"n": "x"}]}, "metrics": [1], "provenance": {"a": {"b": {}}}})",
        R"({"training": [1]})", R"({"training": {"command": [7, {}], "x": [[]]}})"}) {
    CardFacts facts = bare_facts();
    facts.details = Json::parse(json, "");
    facts.training_args = facts.details;
    CHECK(front_matter(bdh::model_card(facts)).starts_with("library_name: bdh\n"));
  }
}

TEST_CASE("card text: YAML scalars") {
  CHECK(yaml_scalar("en") == "en");
  CHECK(yaml_scalar("owner/name-1.0") == "owner/name-1.0");
  for (const char* word : {"no", "Yes", "NULL", "true", "on", "y", "1.0", "", "-a", "~", "a b", "a:", "0x1f"})
    CHECK_MESSAGE(yaml_scalar(word) == bdh::concat("\"", word, "\""), word);
  CHECK(yaml_scalar("a\"b\\c\n") == "\"a\\\"b\\\\c\\u000a\"");
  CHECK(yaml_scalar("\xe2\x80\xa8\x7f\xc2\x85\xef\xbb\xbf") == "\"\\u2028\\u007f\\u0085\\ufeff\"");
  CHECK(yaml_scalar("\xf0\x9f\xa6\x89\xf0\x9f\xbf\xbe") == "\"\xf0\x9f\xa6\x89\\U0001fffe\"");
  CHECK(yaml_scalar("\xff") == "\"\xef\xbf\xbd\"");
}

TEST_CASE("card text: Markdown") {
  CHECK(markdown_text("plain words, 1.5 (a): b_c") == "plain words, 1.5 (a): b_c");
  CHECK(markdown_text("_a_ `b` *c* <d> [e] a|b \\ # ~") ==
        "\\_a\\_ \\`b\\` \\*c\\* \\<d\\> \\[e\\] a\\|b \\\\ \\# \\~");
  CHECK(markdown_text("\n- a\nb\t") == "\\- a b");
  CHECK(markdown_text(" \n ").empty());
  CHECK(bdh::markdown_word("max_iters") == "`max_iters`");
  CHECK(bdh::markdown_word("a b`") == "a b\\`");
}
