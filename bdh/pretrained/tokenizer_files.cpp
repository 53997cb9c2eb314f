// The tokenizer of a model directory: its files read and made into a Tokenizer.
#include "bdh/pretrained/tokenizer_files.h"

#include <system_error>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/pretrained/file_names.h"
#ifdef BDH_TOKENIZERS
#include "bdh/text/tokenizers/tokenizer_json.h"
#endif

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFileBytes = 512'000'000;
constexpr int64_t kByteVocabulary = 256;
constexpr const char* kTokenizer = kTokenizerFiles[0];

#ifdef BDH_TOKENIZERS
std::shared_ptr<const Tokenizer> make(const TokenizerFiles& files, const fs::path& directory,
                                      std::vector<std::string>* warnings) {
  return make_tokenizer(files, directory.string(), warnings);
}
#else
std::shared_ptr<const Tokenizer> make(const TokenizerFiles&, const fs::path& directory,
                                      std::vector<std::string>* warnings) {
  if (warnings) {
    warnings->push_back(concat((directory / kTokenizer).string(),
                               ": this build has no tokenizers; build bdh with BDH_TOKENIZERS=ON (PCRE2 and "
                               "utf8proc) to read and write text"));
  }
  return nullptr;
}
#endif

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

TokenizerFiles read_tokenizer_files(const fs::path& directory) {
  TokenizerFiles files;
  if (!present(directory / kTokenizer)) return files;
  for (const char* name : kTokenizerFiles) {
    if (present(directory / name)) files[name] = read_text(directory / name, kMaxFileBytes);
  }
  return files;
}

std::shared_ptr<const Tokenizer> tokenizer_from(const TokenizerFiles& files, int64_t model_vocab_size,
                                                const fs::path& directory,
                                                std::vector<std::string>* warnings) {
  if (files.empty()) return model_vocab_size == kByteVocabulary ? std::make_shared<ByteTokenizer>() : nullptr;
  auto tokenizer = make(files, directory, warnings);
  if (tokenizer && warnings && tokenizer->vocab_size() > model_vocab_size) {
    warnings->push_back(concat((directory / kTokenizer).string(), ": has tokens up to ",
                               tokenizer->vocab_size() - 1, ", but the model's vocab_size is ",
                               model_vocab_size));
  }
  return tokenizer;
}

}  // namespace bdh
