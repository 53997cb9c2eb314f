// The model card: sections put together from facts; what is unknown is left out.
#include "bdh/pretrained/card.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/model/horizon.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/card_text.h"
#include "bdh/text/utf8.h"

namespace bdh {
namespace {

constexpr std::string_view kFrequencies = "attn.freqs";
constexpr size_t kLongestValue = 300;

constexpr std::string_view kCitation = R"(
## Citation

The architecture is described in [arXiv 2509.26507](https://arxiv.org/abs/2509.26507):

```bibtex
@misc{kosowski2025dragonhatchling,
  title = {The Dragon Hatchling: The Missing Link between the Transformer and Models of the Brain},
  author = {Adrian Kosowski and Przemys{\l}aw Uzna{\'n}ski and Jan Chorowski and Zuzanna Stamirowska and Micha{\l} Bartoszkiewicz},
  year = {2025},
  eprint = {2509.26507},
  archivePrefix = {arXiv}
}
```
)";

// --- facts

/// The strings that stand under `key`: one, or an array of them. Others are left out.
std::vector<std::string> strings_at(const Json& json, std::string_view key) {
  std::vector<std::string> strings;
  const Json* value = json.find(key);
  if (!value) return strings;
  const auto add = [&](const Json& one) {
    if (one.is_string() && !one.as_string().empty()) strings.push_back(one.as_string());
  };
  if (value->is_array())
    for (const Json& one : value->as_array()) add(one);
  else
    add(*value);
  return strings;
}

/// What stands under the first of the keys that has any.
std::vector<std::string> first_strings(const Json& json, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys)
    if (std::vector<std::string> found = strings_at(json, key); !found.empty()) return found;
  return {};
}

std::vector<std::string> datasets_of(const CardFacts& facts) {
  std::vector<std::string> named = first_strings(facts.details, {"datasets", "dataset"});
  return named.empty() ? first_strings(facts.training_args, {"datasets", "dataset", "dataset_name"}) : named;
}

/// NAME or OWNER/NAME, as the Hub calls models and data sets.
bool is_hub_name(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == '/';
  };
  return !text.empty() && text.size() <= 96 && text.front() != '/' && text.back() != '/' &&
         std::count(text.begin(), text.end(), '/') <= 1 && std::all_of(text.begin(), text.end(), allowed);
}

std::vector<std::string> hub_names(std::vector<std::string> names) {
  std::erase_if(names, [](const std::string& name) { return !is_hub_name(name); });
  return names;
}

/// The identifiers that the Hub takes for a license; any other is `other` with a license_name.
bool is_hub_license(std::string_view license) {
  constexpr auto kLicenses = std::to_array<std::string_view>({"apache-2.0",
                                                              "mit",
                                                              "openrail",
                                                              "bigscience-openrail-m",
                                                              "creativeml-openrail-m",
                                                              "bigscience-bloom-rail-1.0",
                                                              "bigcode-openrail-m",
                                                              "afl-3.0",
                                                              "artistic-2.0",
                                                              "bsl-1.0",
                                                              "bsd",
                                                              "bsd-2-clause",
                                                              "bsd-3-clause",
                                                              "bsd-3-clause-clear",
                                                              "c-uda",
                                                              "cc",
                                                              "cc0-1.0",
                                                              "cc-by-2.0",
                                                              "cc-by-2.5",
                                                              "cc-by-3.0",
                                                              "cc-by-4.0",
                                                              "cc-by-sa-3.0",
                                                              "cc-by-sa-4.0",
                                                              "cc-by-nc-2.0",
                                                              "cc-by-nc-3.0",
                                                              "cc-by-nc-4.0",
                                                              "cc-by-nd-4.0",
                                                              "cc-by-nc-nd-3.0",
                                                              "cc-by-nc-nd-4.0",
                                                              "cc-by-nc-sa-2.0",
                                                              "cc-by-nc-sa-3.0",
                                                              "cc-by-nc-sa-4.0",
                                                              "cdla-sharing-1.0",
                                                              "cdla-permissive-1.0",
                                                              "cdla-permissive-2.0",
                                                              "wtfpl",
                                                              "ecl-2.0",
                                                              "epl-1.0",
                                                              "epl-2.0",
                                                              "etalab-2.0",
                                                              "eupl-1.1",
                                                              "eupl-1.2",
                                                              "agpl-3.0",
                                                              "gfdl",
                                                              "gpl",
                                                              "gpl-2.0",
                                                              "gpl-3.0",
                                                              "lgpl",
                                                              "lgpl-2.1",
                                                              "lgpl-3.0",
                                                              "isc",
                                                              "lppl-1.3c",
                                                              "ms-pl",
                                                              "mpl-2.0",
                                                              "odc-by",
                                                              "odbl",
                                                              "openmdw-1.0",
                                                              "openrail++",
                                                              "osl-3.0",
                                                              "postgresql",
                                                              "ofl-1.1",
                                                              "ncsa",
                                                              "unlicense",
                                                              "zlib",
                                                              "pddl",
                                                              "other"});
  return std::find(kLicenses.begin(), kLicenses.end(), license) != kLicenses.end();
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return text;
}

bool is_bytes(const CardFacts& facts) { return facts.tokenizer == "bytes"; }

// --- front matter

struct FrontMatter {
  std::string text = "---\n";

  void one(std::string_view key, const std::string& value) {
    text.append(key).append(": ").append(yaml_scalar(value)).append("\n");
  }
  void list(std::string_view key, const std::vector<std::string>& values) {
    if (values.empty()) return;
    text.append(key).append(":\n");
    for (const std::string& value : values) text.append("- ").append(yaml_scalar(value)).append("\n");
  }
};

void add_license(FrontMatter& front, const Json& details) {
  const std::vector<std::string> license = strings_at(details, "license");
  if (license.empty()) return;
  const std::string identifier = lower(license.front());
  const bool known = is_hub_license(identifier);
  std::vector<std::string> name = strings_at(details, "license_name");
  if (name.empty() && !known) name = license;
  front.one("license", known ? identifier : "other");
  if (!name.empty()) front.one("license_name", name.front());
  if (const auto link = strings_at(details, "license_link"); !link.empty())
    front.one("license_link", link.front());
}

std::vector<std::string> tags_of(const CardFacts& facts) {
  std::vector<std::string> tags{"bdh"};
  if (is_bytes(facts)) tags.emplace_back("byte-level");
  for (std::string& tag : strings_at(facts.details, "tags"))
    if (std::find(tags.begin(), tags.end(), tag) == tags.end()) tags.push_back(std::move(tag));
  return tags;
}

/// Neither quantized nor packed: PyTorch's code loads the tensors.
bool python_reads(const CardFacts& facts) { return facts.config.weight_bits == 0 && !facts.config.packed; }

std::string front_matter(const CardFacts& facts) {
  FrontMatter front;
  front.list("language", strings_at(facts.details, "language"));
  add_license(front, facts.details);
  front.one("library_name", facts.huggingface && python_reads(facts) ? "transformers" : "bdh");
  front.one("pipeline_tag", "text-generation");
  front.list("tags", tags_of(facts));
  front.list("datasets", hub_names(datasets_of(facts)));
  front.list("base_model", hub_names(strings_at(facts.details, "base_model")));
  return front.text + "---\n";
}

// --- tables

std::string row(std::initializer_list<std::string> cells) {
  std::string line = "|";
  for (const std::string& cell : cells) line.append(" ").append(cell).append(" |");
  return line + "\n";
}

/// A heading row and the row of dashes below it.
std::string table_head(std::initializer_list<std::string> cells) {
  std::string line = row(cells) + "|";
  for (size_t i = 0; i < cells.size(); ++i) line += " --- |";
  return line + "\n";
}

/// 25,296,896
std::string grouped(int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string bytes_text(int64_t bytes) {
  return concat(grouped(bytes), " bytes (", format_bytes(static_cast<size_t>(bytes)), ")");
}

std::string value_text(const Json& value) {
  std::string text = value.is_string() ? value.as_string() : value.dump();
  if (text.size() > kLongestValue) text = text.substr(0, kLongestValue) + "...";
  return markdown_text(text);
}

/// A row for each value; those of an object inside have its name and a dot before theirs.
std::string value_rows(const Json& object, const std::string& prefix = {}) {
  std::string rows;
  for (const auto& [key, value] : object.as_object()) {
    if (value.is_null()) continue;
    rows += value.is_object() ? value_rows(value, prefix + key + ".")
                              : row({markdown_word(prefix + key), value_text(value)});
  }
  return rows;
}

/// A section with the object's values; nothing when there is none.
std::string value_section(const char* title, const Json* object) {
  if (!object || !object->is_object()) return {};
  const std::string rows = value_rows(*object);
  return rows.empty() ? rows : concat("\n## ", title, "\n\n", table_head({"", ""}), rows);
}

// --- training

/// One line of shell as a block of code, whatever is in it: the fence is longer than any inside.
std::string command_code(std::string_view command) {
  std::string line = valid_utf8(command);
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  size_t longest = 2, run = 0;
  for (const char c : line) longest = std::max(longest, run = c == '`' ? run + 1 : 0);
  const std::string fence(longest + 1, '`');
  return concat(fence, "sh\n", line, "\n", fence, "\n");
}

/// What was measured, the picture, and what makes the model again; then what was asked for.
std::string training(const CardFacts& facts) {
  Json measured(Json::Object{});
  const Json* told = facts.details.find("training");
  if (told && told->is_object()) measured = *told;
  const std::vector<std::string> command = strings_at(measured, "command");
  if (!command.empty()) measured.set("command", nullptr);
  const std::string rows = value_rows(measured);
  std::string text = rows.empty() ? "" : "\n" + table_head({"", ""}) + rows;
  if (!facts.picture.empty()) text += concat("\n![Loss by step](", facts.picture, ")\n");
  if (!command.empty()) text += "\nMade by this command:\n\n" + command_code(command.front());
  if (text.empty()) return value_section("Training", &facts.training_args);
  const std::string options = facts.training_args.is_object() ? value_rows(facts.training_args) : "";
  if (!options.empty()) text += "\nOptions:\n\n" + table_head({"", ""}) + options;
  return "\n## Training\n" + text;
}

// --- sections

std::string joined(const std::vector<std::string>& texts) {
  std::string line;
  for (const std::string& text : texts) line.append(line.empty() ? "" : ", ").append(markdown_text(text));
  return line;
}

std::string description(const CardFacts& facts) {
  std::string text = "\n# " + markdown_text(facts.name.empty() ? "BDH language model" : facts.name) + "\n\n";
  for (const std::string& own : strings_at(facts.details, "description")) text += markdown_text(own) + "\n\n";
  text += concat(
      "A BDH (\"Dragon Hatchling\") language model: layers ",
      facts.config.tie_layers ? "that share one set of weights" : "with weights of their own",
      ", sparse positive\n"
      "activations, and linear attention whose memory stays the same size however long the text is.\n");
  if (const auto datasets = datasets_of(facts); !datasets.empty())
    text += "\nTrained on: " + joined(datasets) + "\n";
  if (const auto base = strings_at(facts.details, "base_model"); !base.empty())
    text += "\nMade from: " + joined(base) + "\n";
  return text;
}

std::string tokenizer_rows(const CardFacts& facts) {
  if (facts.tokenizer.empty()) return {};
  return row({"tokenizer", is_bytes(facts) ? "none: the tokens are bytes" : markdown_text(facts.tokenizer)});
}

// How far back a model reads, and was trained to read.
std::string reach_rows(const CardFacts& facts) {
  std::string rows;
  if (facts.block_size) rows += row({"trained on blocks of", grouped(*facts.block_size) + " tokens"});
  if (!facts.horizon.empty()) {
    rows += row(
        {facts.horizon.size() == 1 ? "horizon" : "horizon of each head",
         horizon_text(facts.horizon) + " tokens: past its block the model reads on where older text fades"});
  }
  return rows;
}

std::string stored_as(const CardFacts& facts) {
  const std::string packed = facts.config.packed ? ", packed" : "";
  if (python_reads(facts)) return std::string(torch_name_of(facts.dtype));
  if (facts.config.weight_bits == 0) return concat(torch_name_of(facts.dtype), packed, ", which bdh reads");
  return concat("int", facts.config.weight_bits, " with float16 scales", packed, ", which bdh reads");
}

std::string architecture(const CardFacts& facts) {
  const Config& c = facts.config;
  const int64_t neurons = c.neurons_per_head();
  return "\n## Architecture\n\n" + table_head({"", ""}) + row({"layers L", grouped(c.n_layer)}) +
         row({"embedding dimension D", grouped(c.n_embd)}) + row({"attention heads H", grouped(c.n_head)}) +
         row({"multiplier M", grouped(c.mlp_internal_dim_multiplier)}) +
         (c.tie_layers ? "" : row({"weights", "each layer has its own"})) +
         row({"neurons N = M D / H",
              grouped(neurons) + " per head, " + grouped(c.n_head * neurons) + " in all"}) +
         row({"vocabulary V", grouped(c.vocab_size)}) + tokenizer_rows(facts) +
         row({"dropout in training", Json(c.dropout).dump()}) + row({"parameters", grouped(c.parameters())}) +
         row({"stored as", stored_as(facts)}) +
         row({"state of a sequence", bytes_text(c.state_bytes()) + ", float32, whatever its length"}) +
         reach_rows(facts);
}

/// encoder for encoder.3, the weights of one layer; other names as they are.
std::string_view without_layer(std::string_view name) {
  const size_t dot = name.find_last_not_of("0123456789");
  return dot + 1 < name.size() && name[dot] == '.' ? name.substr(0, dot) : name;
}

using NamedShape = std::pair<std::string, Shape>;

/// One tensor, or those of all layers.
std::string tensor_row(std::span<const NamedShape> tensors) {
  const auto& [name, shape] = tensors.front();
  const std::string count = grouped(element_count(shape));
  if (name == kFrequencies)
    return row({markdown_word(name), to_string(shape), concat("none; a buffer of ", count, " float32")});
  if (tensors.size() == 1) return row({markdown_word(name), to_string(shape), count});
  const std::string names = concat(markdown_word(name), " to ", markdown_word(tensors.back().first));
  return row({names, to_string(shape), concat(count, " each")});
}

std::string tensors(const CardFacts& facts) {
  std::string table = table_head({"tensor", "shape", "parameters"});
  const std::vector<NamedShape> shapes =
      parameter_shapes(with_packed(with_weight_bits(facts.config, 0), false));
  for (std::span<const NamedShape> left(shapes); !left.empty();) {
    const std::string_view stem = without_layer(left.front().first);
    const auto end = std::find_if(left.begin(), left.end(), [&](const NamedShape& other) {
      return without_layer(other.first) != stem;
    });
    const auto count = static_cast<size_t>(end - left.begin());
    table += tensor_row(left.first(count));
    left = left.subspan(count);
  }
  return table + row({"all", "", grouped(facts.config.parameters())});
}

/// Every dtype keeps the frequencies in float32.
std::string sizes(const Config& config) {
  std::string table = table_head({"weights as", "size"});
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto width = static_cast<int64_t>(size_of(dtype));
    table += row({std::string(torch_name_of(dtype)),
                  bytes_text(config.parameters() * width + 4 * config.neurons_per_head())});
  }
  return table;
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

/// One layer's row; nothing unless all four shares are there.
std::optional<std::string> sparsity_row(size_t index, const Json& layer) {
  std::string cells;
  for (const char* key : {"n", "pairs", "v", "g"}) {
    const Json* share = layer.find(key);
    if (!share || !share->is_number()) return {};
    cells.append(" ").append(percent(share->as_number())).append(" |");
  }
  return concat("| ", index, " |", cells, "\n");
}

std::string sparsity(const Json* measured) {
  const Json* layers = measured ? measured->find("layers") : nullptr;
  if (!layers || !layers->is_array() || layers->as_array().empty()) return {};
  std::string rows;
  for (size_t i = 0; i < layers->as_array().size(); ++i) {
    const std::optional<std::string> line = sparsity_row(i, layers->as_array()[i]);
    if (!line) return {};
    rows += *line;
  }
  const Json* tokens = measured->find("tokens");
  const std::string over = tokens && tokens->is_integer() ? concat(" over ", tokens->dump(), " tokens") : "";
  return "\n## Sparsity\n\nShare of neurons that are active, measured" + over +
         ": n = relu(x E), pairs of them, v = relu(a Ev), g = n v.\n\n" +
         table_head({"layer", "n", "pairs", "v", "g"}) + rows;
}

// --- usage

std::string code(std::string_view language, std::string_view text) {
  return concat("\n```", language, "\n", text, "```\n");
}

std::string command_usage(const CardFacts& facts) {
  const std::string run =
      facts.tokenizer.empty()
          ? "bdh logits path/to/model --tokens 0,1 --out logits.safetensors\n"
          : "bdh generate path/to/model --prompt \"Once upon a time\" --max-new-tokens 100\n";
  return "\nOn the command line:\n" + code("sh", run + "bdh inspect path/to/model\n");
}

constexpr std::string_view kTextProgram = R"(#include <iostream>

#include "bdh/bdh.h"

int main() {
  const bdh::Model model = bdh::Model::from_pretrained("path/to/model");
  bdh::Session session(model.weights);
  const auto result = bdh::generate(session, *model.tokenizer, "Once upon a time", model.generation);
  std::cout << result.text << "\n";
}
)";

constexpr std::string_view kTokensProgram = R"(#include <iostream>
#include <vector>

#include "bdh/bdh.h"

int main() {
  const bdh::Model model = bdh::Model::from_pretrained("path/to/model");
  bdh::Session session(model.weights);
  const std::vector<int32_t> tokens = {0, 1};
  const std::vector<float> logits = session.read(tokens);
  std::cout << logits[0] << "\n";
}
)";

constexpr std::string_view kTextInC = R"(#include <stdio.h>
#include <string.h>

#include "bdh/bdh_c.h"

static int print(void* user, const char* text, size_t length) {
  (void)user;
  return fwrite(text, 1, length, stdout) == length;
}

int main(void) {
  const char* prompt = "Once upon a time";
  bdh_model* model = NULL;
  bdh_session* session = NULL;
  bdh_generation_options options;
  int failed = bdh_model_load("path/to/model", NULL, &model) || bdh_session_new(model, &session) ||
               bdh_generation_options_defaults(model, &options, sizeof options);
  if (!failed) {
    options.on_text = print;
    failed = bdh_generate(session, prompt, strlen(prompt), &options, NULL, 0);
  }
  if (failed) fprintf(stderr, "%s\n", bdh_last_error());
  bdh_session_free(session);
  bdh_model_free(model);
  return failed;
}
)";

constexpr std::string_view kTokensInC = R"(#include <stdio.h>

#include "bdh/bdh_c.h"

int main(void) {
  const int32_t tokens[] = {0, 1};
  bdh_model* model = NULL;
  bdh_session* session = NULL;
  const int failed = bdh_model_load("path/to/model", NULL, &model) || bdh_session_new(model, &session) ||
                     bdh_session_read(session, tokens, 2, BDH_LOGITS_NONE, NULL, 0);
  if (failed) fprintf(stderr, "%s\n", bdh_last_error());
  bdh_session_free(session);
  bdh_model_free(model);
  return failed;
}
)";

std::string c_usage(const CardFacts& facts) {
  return "\nIn C, with the same library:\n" + code("c", facts.tokenizer.empty() ? kTokensInC : kTextInC);
}

std::string cpp_usage(const CardFacts& facts) {
  return "\nIn C++, with `find_package(bdh)` and `target_link_libraries(program bdh::bdh)` in CMake:\n" +
         code("cpp", facts.tokenizer.empty() ? kTokensProgram : kTextProgram);
}

constexpr std::string_view kTransformersBytes = R"(import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/model", trust_remote_code=True)
prompt = torch.tensor([list("Once upon a time".encode())])
output = model.generate(prompt, max_new_tokens=100)
print(bytes(output[0].tolist()).decode(errors="replace"))
)";

constexpr std::string_view kTransformersText = R"(from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/model", trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained("path/to/model", trust_remote_code=True)
inputs = tokenizer("Once upon a time", return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=100)
print(tokenizer.decode(output[0], skip_special_tokens=True))
)";

constexpr std::string_view kTransformersTokens = R"(import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/model", trust_remote_code=True)
output = model.generate(torch.tensor([[0, 1]]), max_new_tokens=100)
print(output[0].tolist())
)";

std::string transformers_usage(const CardFacts& facts) {
  if (!facts.huggingface || !python_reads(facts)) return {};
  const std::string_view text = is_bytes(facts)           ? kTransformersBytes
                                : facts.tokenizer.empty() ? kTransformersTokens
                                                          : kTransformersText;
  return "\nIn Python, with transformers:\n" + code("python", text);
}

/// How Python reads weights files of one form: one by its name, shards by a pattern.
struct PythonReader {
  std::string_view single, shards, import, call, options;
};

constexpr PythonReader kPythonReaders[] = {
    {"model.safetensors", "model-*.safetensors", "from safetensors.torch import load_file\n", "load_file",
     ""},
    {"model.pt", "", "import torch\n", "torch.load", ", weights_only=True"},
    {"pytorch_model.bin", "pytorch_model-*.bin", "import torch\n", "torch.load", ", weights_only=True"},
};

/// A file of a set of shards, as its pattern says.
bool matches(std::string_view name, std::string_view pattern) {
  const size_t star = pattern.find('*');
  return star != std::string_view::npos && name.starts_with(pattern.substr(0, star)) &&
         name.ends_with(pattern.substr(star + 1));
}

/// Imports, and the lines that make `weights`, a state_dict; nothing for files that Python has no reader for.
std::string python_weights(const std::vector<std::string>& files) {
  for (const PythonReader& reader : kPythonReaders) {
    if (files.size() == 1 && files[0] == reader.single)
      return concat(reader.import, "\nweights = ", reader.call, "(\"path/to/model/", files[0], "\"",
                    reader.options, ")\n");
    if (!files.empty() && matches(files[0], reader.shards))
      return concat("from pathlib import Path\n\n", reader.import,
                    "\nweights = {}\nfor file in Path(\"path/to/model\").glob(\"", reader.shards,
                    "\"):\n    weights.update(", reader.call, "(file", reader.options, "))\n");
  }
  return {};
}

/// The authors' code has one set of weights for all layers.
std::string pytorch_usage(const CardFacts& facts) {
  if (!facts.config.tie_layers || !python_reads(facts)) return {};
  const std::string weights = python_weights(facts.weights_files);
  if (weights.empty()) return {};
  return "\nIn Python, with the authors' PyTorch code (`bdh.py`):\n" +
         code("python", concat("import json\n", weights, R"(
from bdh import BDH, BDHConfig

with open("path/to/model/config.json") as file:
    fields = json.load(file)
model = BDH(BDHConfig(**{name: fields[name] for name in BDHConfig.__dataclass_fields__}))
model.load_state_dict(weights)
)"));
}

std::string footer(const CardFacts& facts) {
  if (facts.program_version.empty()) return {};
  return "\nThis card was written by bdh " + markdown_text(facts.program_version) + ".\n";
}

}  // namespace

std::string model_card(const CardFacts& facts) {
  return front_matter(facts) + description(facts) + architecture(facts) + "\n" + tensors(facts) + "\n" +
         sizes(facts.config) + training(facts) + value_section("Metrics", facts.details.find("metrics")) +
         value_section("Provenance", facts.details.find("provenance")) +
         sparsity(facts.details.find("sparsity")) + "\n## Usage\n" + command_usage(facts) + cpp_usage(facts) +
         c_usage(facts) + transformers_usage(facts) + pytorch_usage(facts) + std::string(kCitation) +
         footer(facts);
}

}  // namespace bdh
