// ByT5's tokens, as transformers' ByT5Tokenizer gives them: a byte plus three, behind <pad>, </s> and <unk>,
// and added tokens that are cut out of a text first.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/text/tokenizer.h"

namespace bdh {

class Byt5Tokenizer : public Tokenizer {
 public:
  /// Of tokenizer_config.json, special_tokens_map.json and added_tokens.json, which may be missing. `source`
  /// names their directory in errors. Throws Error(bad_file).
  Byt5Tokenizer(TokenizerFiles files, const std::string& source);

  int64_t vocab_size() const override { return limit_; }
  std::vector<int32_t> encode(std::string_view raw) const override;
  /// With special_tokens: </s> at the end, unless it is there.
  std::vector<int32_t> encode_with(const EncodeOptions& options, std::string_view text) const override;
  /// Bytes that make no UTF-8 together are left out, as transformers leaves them out.
  std::string decode(std::span<const int32_t> tokens) const override { return decoded(tokens, false); }
  std::string decode_text(std::span<const int32_t> tokens) const override { return decoded(tokens, true); }
  std::unique_ptr<DecodeStream> decode_stream(bool skip_special_tokens) const override;
  std::optional<std::string> token_text(int32_t token) const override;
  std::optional<int32_t> eos() const override { return special_.eos; }
  SpecialTokens special_tokens() const override { return special_; }
  TokenizerFiles files() const override { return files_; }

 private:
  struct Added {
    std::string text;
    bool lstrip = false, rstrip = false, special = false;
  };
  class Stream;

  void add(int32_t token, Added added);
  void read_config(const Json& config, const std::string& where);
  void read_added_tokens(const Json& tokens, const std::string& where);
  std::string bytes_of(int32_t token) const;
  std::string decoded(std::span<const int32_t> tokens, bool skip_special_tokens) const;
  const std::pair<const std::string, int32_t>* longest_at(std::string_view text, size_t at) const;

  TokenizerFiles files_;
  std::map<int32_t, Added> added_;
  std::map<std::string, int32_t, std::less<>> by_text_;
  bool starts_[256] = {};  // first bytes of added tokens
  size_t longest_ = 0;     // bytes of an added token
  int64_t limit_ = 0;
  SpecialTokens special_;
};

}  // namespace bdh
