// Tokenizer: text to tokens and back. One interface for byte-level models and for those with a
// tokenizer.json. Knows nothing of models.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bdh {

/// The tokenizer files of a model directory (tokenizer.json, tokenizer_config.json, special_tokens_map.json):
/// their bytes by name.
using TokenizerFiles = std::map<std::string, std::string>;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocab_size() const = 0;
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  /// The bytes the tokens stand for; they need not be valid UTF-8.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
  /// The token that ends a text, if the model has one.
  virtual std::optional<int32_t> eos() const = 0;
  /// What it was made from, to be saved again byte for byte; empty for byte-level models.
  virtual TokenizerFiles files() const { return {}; }
};

/// Bytes as tokens: vocabulary 256, no end-of-text token.
class ByteTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 256; }
  std::vector<int32_t> encode(std::string_view text) const override;
  /// Throws Error(invalid_argument) for a token outside [0, 256).
  std::string decode(std::span<const int32_t> tokens) const override;
  std::optional<int32_t> eos() const override { return {}; }
};

}  // namespace bdh
