// Tokenizer: text to tokens and back. One interface for byte-level models and for those with a
// tokenizer.json.
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

struct EncodeOptions {
  bool special_tokens = false;  // put those around the text that the tokenizer's post-processor adds
  bool limits = false;          // truncate and pad as tokenizer.json says; generation never does
};

/// Tokens with a role, where the model has them.
struct SpecialTokens {
  std::optional<int32_t> bos, eos, pad, unk;
};

/// Tokens in one by one, text out as it becomes certain: whole UTF-8 characters, which put together are what
/// decode makes of all the tokens.
class DecodeStream {
 public:
  virtual ~DecodeStream() = default;
  virtual std::string push(int32_t token) = 0;
  /// What was held back, when no more tokens come.
  virtual std::string finish() = 0;
};

/// Immutable: any number of threads may share it.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// One more than the largest token.
  virtual int64_t vocab_size() const = 0;
  /// The tokens of the text alone. Bytes that are not UTF-8 count as U+FFFD, as Utf8Stream replaces them,
  /// unless bytes are the tokens.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  virtual std::vector<int32_t> encode_with(const EncodeOptions& options, std::string_view text) const;
  /// The bytes the tokens stand for, special ones included; they need not be valid UTF-8 where bytes are the
  /// tokens.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
  /// The same without special tokens.
  virtual std::string decode_text(std::span<const int32_t> tokens) const;
  /// Refers to the tokenizer, which must outlive it.
  virtual std::unique_ptr<DecodeStream> decode_stream(bool skip_special_tokens) const;
  /// The token as its vocabulary has it; nothing when there is none.
  virtual std::optional<std::string> token_text(int32_t token) const;
  /// The token that ends a text, if the model has one.
  virtual std::optional<int32_t> eos() const = 0;
  virtual SpecialTokens special_tokens() const { return {{}, eos(), {}, {}}; }
  /// The template that lays out a conversation (Jinja), as the files have it. bdh keeps it and does not run
  /// it.
  virtual std::optional<std::string> chat_template() const { return {}; }
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
