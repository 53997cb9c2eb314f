// The tokenizer of a model: its files found and made into a Tokenizer.
#include "bdh/pretrained/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <optional>
#include <system_error>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/text/characters.h"
#ifndef BDH_MINIMAL
#include "bdh/text/byt5.h"
#endif
#ifdef BDH_TOKENIZERS
#include "bdh/text/tokenizers/tokenizer_json.h"
#endif

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFileBytes = 512'000'000;
constexpr int64_t kByteVocabulary = 256;
constexpr const char* kTokenizer = kTokenizerFiles[0];
constexpr const char* kTokenizerConfig = "tokenizer_config.json";
constexpr const char* kFolder = "tokenizer";
constexpr const char* kByt5Class = "ByT5Tokenizer";

// Where checkpoints keep their vocabulary, the best known first.
constexpr std::array<std::string_view, 8> kVocabularies{"stoi",        "char_to_idx", "char2idx", "itos",
                                                        "idx_to_char", "idx2char",    "chars",    "vocab"};
// Words for bytes in the values of tokenizer_type and the like.
constexpr std::array<std::string_view, 7> kByteWords{"",           "byte", "bytes", "byte-level",
                                                     "byte_level", "utf8", "none"};

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

TokenizerFiles files_in(const fs::path& directory) {
  TokenizerFiles files;
  for (const char* name : kTokenizerFiles) {
    if (present(directory / name)) files[name] = read_text(directory / name, kMaxFileBytes);
  }
  return files;
}

/// bpe.json, bpe-8k.json, tokenizer-v2.json: what the tokenizers package may have saved under that name.
bool may_be_tokenizer(const std::string& name) {
  const bool json = name.ends_with(".json") && !is_model_file(name);
  return json && (name.starts_with("bpe") || name.starts_with("tokenizer"));
}

bool is_tokenizer_json(const std::string& text, const fs::path& path) {
  try {
    const Json json = Json::parse(text, path.string());
    const Json* model = json.find("model");
    return model && model->is_object() && model->find("vocab");
  } catch (const Error&) {
    return false;
  }
}

/// The one such file; nothing where there is none.
std::optional<std::string> file_of_another_name(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    if (!may_be_tokenizer(entry.path().filename().string())) continue;
    if (is_tokenizer_json(read_text(entry.path(), kMaxFileBytes), entry.path()))
      found.push_back(entry.path());
  }
  if (found.empty()) return {};
  std::sort(found.begin(), found.end());
  if (found.size() > 1) {
    fail(ErrorKind::invalid_argument, "'", directory.string(), "' has several tokenizers, ",
         found[0].filename().string(), " and ", found[1].filename().string(),
         "; name the model's own tokenizer.json");
  }
  return read_text(found[0], kMaxFileBytes);
}

/// "ByT5Tokenizer" in tokenizer_config.json; empty where nothing names a class.
std::string class_in(const TokenizerFiles& files, const fs::path& directory, std::string_view key) {
  const auto file = files.find(kTokenizerConfig);
  if (file == files.end()) return {};
  const Json json = Json::parse(file->second, (directory / kTokenizerConfig).string());
  const Json* value = json.find(key);
  return value && value->is_string() ? value->as_string() : "";
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

/// A word that is not one for bytes, as what it says in a message.
std::string other_kind(const std::string& where, const Json* value) {
  if (!value || !value->is_string()) return {};
  const std::string word = lower(value->as_string());
  if (std::find(kByteWords.begin(), kByteWords.end(), word) != kByteWords.end()) return {};
  return concat(where, " is ", printable(value->as_string()));
}

const Json* find_key(const Json::Object& object, std::string_view key) {
  const auto found = std::find_if(object.begin(), object.end(),
                                  [&](const Json::Member& member) { return member.first == key; });
  return found == object.end() ? nullptr : &found->second;
}

/// What says that tokens are neither bytes nor anything that was found; empty where nothing does.
std::string unread_tokenizer(const TokenizerFiles& files, const fs::path& directory,
                             const Json::Object& config, const Json& values) {
  for (const char* name : kForeignTokenizerFiles) {
    if (files.contains(name)) return concat("there is a ", name);
  }
  const std::string tokenizer_class = class_in(files, directory, "tokenizer_class");
  if (!tokenizer_class.empty())
    return concat("tokenizer_config.json names the class ", printable(tokenizer_class));
  const Json kind(class_in(files, directory, "tokenizer_type"));
  if (std::string other = other_kind("tokenizer_config.json: tokenizer_type", &kind); !other.empty())
    return other;
  for (const char* key : {"tokenizer_type", "tokenizer", "tokenizer_name"}) {
    if (std::string other = other_kind(concat("config.json: ", key), find_key(config, key)); !other.empty())
      return other;
    if (std::string other = other_kind(concat("the checkpoint's ", key), values.find(key)); !other.empty())
      return other;
  }
  const Json* own = values.find("tokenizer_config");
  if (std::string other =
          other_kind("the checkpoint's tokenizer_config: type", own ? own->find("type") : nullptr);
      !other.empty())
    return other;
  for (const std::string_view key : kVocabularies) {
    if (values.find(key))
      return concat("the checkpoint has a vocabulary, ", key, ", that is no list of characters");
  }
  return {};
}

std::optional<std::string> characters_in(const Json& values) {
  for (const std::string_view key : kVocabularies) {
    const Json* vocabulary = values.find(key);
    if (!vocabulary) continue;
    if (const auto characters = characters_of(*vocabulary)) return character_tokenizer_json(*characters);
  }
  return {};
}

[[maybe_unused]] std::shared_ptr<const Tokenizer> not_built(const fs::path& file, const char* without,
                                                            std::vector<std::string>* warnings) {
  if (warnings) warnings->push_back(concat(file.string(), ": this build has no ", without));
  return nullptr;
}

std::shared_ptr<const Tokenizer> make([[maybe_unused]] const TokenizerFiles& files, const fs::path& directory,
                                      std::vector<std::string>* warnings) {
#ifdef BDH_TOKENIZERS
  return make_tokenizer(files, directory.string(), warnings);
#else
  return not_built(directory / kTokenizer,
                   "tokenizers; build bdh with BDH_TOKENIZERS=ON (PCRE2 and utf8proc) to read and write text",
                   warnings);
#endif
}

std::shared_ptr<const Tokenizer> make_byt5([[maybe_unused]] const TokenizerFiles& files,
                                           const fs::path& directory,
                                           [[maybe_unused]] std::vector<std::string>* warnings) {
#ifndef BDH_MINIMAL
  return std::make_shared<Byt5Tokenizer>(files, directory.string());
#else
  return not_built(directory / kTokenizerConfig,
                   "ByT5 tokenizer; build bdh without BDH_MINIMAL to read and write text", warnings);
#endif
}

std::shared_ptr<const Tokenizer> make_of_kind(const TokenizerSource& source, const fs::path& directory,
                                              std::vector<std::string>* warnings) {
  if (source.kind == kTokenizerJsonKind) return make(source.files, directory, warnings);
  if (source.kind == kByt5Kind) return make_byt5(source.files, directory, warnings);
  if (source.kind == kBytesKind) return std::make_shared<ByteTokenizer>();
  if (warnings && !source.unread.empty()) {
    warnings->push_back(concat(directory.string(), ": text cannot be read or written, as ", source.unread,
                               ", which bdh does not read; save the tokenizer as tokenizer.json (",
                               "transformers' AutoTokenizer does), or give token numbers"));
  }
  return nullptr;
}

}  // namespace

TokenizerSource find_tokenizer(const fs::path& directory, int64_t model_vocab_size,
                               const Json::Object& config, const Json& values) {
  TokenizerFiles files = files_in(directory);
  if (!files.contains(kTokenizer) && present(directory / kFolder / kTokenizer))
    files = files_in(directory / kFolder);
  if (!files.contains(kTokenizer)) {
    std::optional<std::string> text = file_of_another_name(directory);
    if (!text) text = characters_in(values);
    if (text) files[kTokenizer] = *std::move(text);
  }
  return tokenizer_source_of(std::move(files), directory.string(), model_vocab_size, config, values);
}

TokenizerSource tokenizer_source_of(TokenizerFiles files, const std::string& name, int64_t model_vocab_size,
                                    const Json::Object& config, const Json& values) {
  const fs::path directory = name;
  TokenizerSource source;
  source.files = std::move(files);
  if (source.files.contains(kTokenizer)) {
    source.kind = kTokenizerJsonKind;
  } else if (class_in(source.files, directory, "tokenizer_class") == kByt5Class) {
    source.kind = kByt5Kind;
  } else {
    source.unread = unread_tokenizer(source.files, directory, config, values);
    if (source.unread.empty() && model_vocab_size == kByteVocabulary) source.kind = kBytesKind;
  }
  return source;
}

std::shared_ptr<const Tokenizer> tokenizer_from(const TokenizerSource& source, int64_t model_vocab_size,
                                                const fs::path& directory,
                                                std::vector<std::string>* warnings) {
  auto tokenizer = make_of_kind(source, directory, warnings);
  if (tokenizer && warnings && tokenizer->vocab_size() > model_vocab_size) {
    warnings->push_back(concat(directory.string(), ": its tokenizer has tokens up to ",
                               tokenizer->vocab_size() - 1, ", but the model's vocab_size is ",
                               model_vocab_size));
  }
  return tokenizer;
}

}  // namespace bdh
