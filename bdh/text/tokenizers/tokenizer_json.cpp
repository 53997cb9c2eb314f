// The tokenizer of a tokenizer.json: its parts put together.
#include "bdh/text/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/added_tokens.h"
#include "bdh/text/tokenizers/byte_level.h"
#include "bdh/text/tokenizers/decoder.h"
#include "bdh/text/tokenizers/limits.h"
#include "bdh/text/tokenizers/model.h"
#include "bdh/text/tokenizers/normalizer.h"
#include "bdh/text/tokenizers/post_processor.h"
#include "bdh/text/tokenizers/pre_tokenizer.h"
#include "bdh/text/tokenizers/special_tokens.h"
#include "bdh/text/tokenizers/text_budget.h"
#include "bdh/text/tokenizers/token_files.h"
#include "bdh/text/tokenizers/word_cache.h"
#include "bdh/text/utf8.h"

namespace bdh {
namespace tokenizers {
namespace {

constexpr const char* kFile = "tokenizer.json";
constexpr size_t kUsualTokenBytes = 16;

Normalizers normalizers_of(const Fields& tokenizer) {
  Normalizers steps;
  if (tokenizer.find("normalizer")) read_normalizer(tokenizer.object("normalizer"), steps);
  return steps;
}

PreTokenizers pre_tokenizers_of(const Fields& tokenizer) {
  return tokenizer.find("pre_tokenizer") ? read_pre_tokenizer(tokenizer.object("pre_tokenizer"))
                                         : PreTokenizers{};
}

PostProcessor post_processor_of(const Fields& tokenizer) {
  return tokenizer.find("post_processor") ? PostProcessor(tokenizer.object("post_processor"))
                                          : PostProcessor{};
}

Decoders decoders_of(const Fields& tokenizer) {
  Decoders decoders;
  if (tokenizer.find("decoder")) read_decoder(tokenizer.object("decoder"), decoders);
  return decoders;
}

NormalText normalized_by(const Normalizers& steps, NormalText text) {
  for (const auto& step : steps) step->apply(text);
  return text;
}

class JsonTokenizer : public Tokenizer {
 public:
  JsonTokenizer(const Fields& tokenizer, const TokenizerSettings& settings, TokenizerFiles files,
                std::vector<std::string>* warnings);

  int64_t vocab_size() const override { return added_.limit(); }
  std::vector<int32_t> encode(std::string_view text) const override { return encode_with({}, text); }
  std::vector<int32_t> encode_with(const EncodeOptions& options, std::string_view text) const override;
  std::string decode(std::span<const int32_t> tokens) const override { return decoded(tokens, false); }
  std::string decode_text(std::span<const int32_t> tokens) const override { return decoded(tokens, true); }
  std::unique_ptr<DecodeStream> decode_stream(bool skip_special_tokens) const override;
  std::optional<std::string> token_text(int32_t token) const override;
  std::optional<int32_t> eos() const override { return special_.eos; }
  SpecialTokens special_tokens() const override { return special_; }
  std::optional<std::string> chat_template() const override { return chat_template_; }
  TokenizerFiles files() const override { return files_; }

 private:
  class Stream : public DecodeStream {
   public:
    Stream(const JsonTokenizer& tokenizer, bool skip_special_tokens)
        : tokenizer_(tokenizer), skip_(skip_special_tokens), pipeline_(tokenizer.decoders_) {}
    std::string push(int32_t token) override {
      const TextBudget budget(kUsualTokenBytes);
      add(token);
      return pipeline_.take();
    }
    std::string finish() override {
      const TextBudget budget(kUsualTokenBytes);
      pipeline_.finish();
      return pipeline_.take();
    }
    void add(int32_t token) {
      const std::optional<std::string_view> text = tokenizer_.text_of(token);
      if (text && !(skip_ && tokenizer_.added_.is_special(*text))) pipeline_.push(*text);
    }

   private:
    const JsonTokenizer& tokenizer_;
    bool skip_;
    DecodePipeline pipeline_;
  };

  std::optional<std::string_view> text_of(int32_t token) const;
  std::string decoded(std::span<const int32_t> tokens, bool skip_special_tokens) const;
  std::optional<int32_t> token_named(const std::optional<std::string>& text, const char* role,
                                     std::vector<std::string>* warnings) const;
  void encode_raw(const NormalText& text, WordCache& cache, std::vector<int32_t>& tokens) const;
  void encode_words(NormalText part, WordCache& cache, std::vector<int32_t>& tokens) const;
  void encode_word(std::string_view word, WordCache& cache, std::vector<int32_t>& tokens) const;

  TokenizerFiles files_;
  Normalizers normalizers_;
  PreTokenizers pre_tokenizers_;
  std::unique_ptr<const Model> model_;
  PostProcessor post_processor_;
  Decoders decoders_;
  Limits limits_;
  AddedTokens added_;
  SpecialTokens special_;
  std::optional<std::string> chat_template_;
  mutable std::mutex mutex_;  // of cache_
  mutable WordCache cache_;
};

JsonTokenizer::JsonTokenizer(const Fields& tokenizer, const TokenizerSettings& settings, TokenizerFiles files,
                             std::vector<std::string>* warnings)
    : files_(std::move(files)),
      normalizers_(normalizers_of(tokenizer)),
      pre_tokenizers_(pre_tokenizers_of(tokenizer)),
      model_(read_model(tokenizer.object("model"))),
      post_processor_(post_processor_of(tokenizer)),
      decoders_(decoders_of(tokenizer)),
      limits_(tokenizer),
      added_(
          tokenizer, model_->vocabulary(),
          [&](std::string_view text) { return normalized_by(normalizers_, {std::string(text)}).text; },
          warnings),
      chat_template_(settings.chat_template) {
  special_.bos = token_named(settings.bos, "bos_token", warnings);
  special_.eos = token_named(settings.eos, "eos_token", warnings);
  special_.pad = token_named(settings.pad, "pad_token", warnings);
  special_.unk = token_named(settings.unk, "unk_token", warnings);
}

std::optional<int32_t> JsonTokenizer::token_named(const std::optional<std::string>& text, const char* role,
                                                  std::vector<std::string>* warnings) const {
  if (!text) return {};
  int32_t token = added_.find(*text);
  if (token == Vocabulary::kNone) token = model_->vocabulary().find(*text);
  if (token != Vocabulary::kNone) return token;
  if (warnings)
    warnings->push_back(concat(role, " ", printable(*text), " is not in the vocabulary; ignored"));
  return {};
}

std::vector<int32_t> JsonTokenizer::encode_with(const EncodeOptions& options, std::string_view text) const {
  const TextBudget budget(text.size());
  std::vector<int32_t> tokens;
  {
    std::unique_lock lock(mutex_, std::try_to_lock);
    std::optional<WordCache> own;  // where another thread is using the common one
    encode_raw({valid_utf8(text)}, lock ? cache_ : own.emplace(), tokens);
  }
  const size_t added = options.special_tokens ? post_processor_.added() : 0;
  if (options.limits) limits_.truncate(tokens, added);
  if (added > 0) tokens = post_processor_.apply(std::move(tokens));
  if (options.limits) limits_.pad(tokens);
  return tokens;
}

/// Added tokens first, in the text as it is and then in what is normalized; words between them.
void JsonTokenizer::encode_raw(const NormalText& text, WordCache& cache, std::vector<int32_t>& tokens) const {
  std::vector<Section> raw, normal;
  added_.cut_raw(text.text, raw);
  for (const Section& section : raw) {
    if (section.token != Vocabulary::kNone) {
      tokens.push_back(section.token);
      continue;
    }
    const NormalText normalized = normalized_by(
        normalizers_, {text.text.substr(section.begin, section.end - section.begin), section.begin == 0});
    added_.cut_normalized(normalized.text, normal);
    for (const Section& inner : normal) {
      if (inner.token != Vocabulary::kNone) {
        tokens.push_back(inner.token);
      } else {
        encode_words({normalized.text.substr(inner.begin, inner.end - inner.begin),
                      normalized.first && inner.begin == 0},
                     cache, tokens);
      }
    }
  }
}

void JsonTokenizer::encode_words(NormalText part, WordCache& cache, std::vector<int32_t>& tokens) const {
  if (part.text.empty()) return;
  Words words{std::move(part.text), {}};
  words.words.push_back({0, words.text.size(), part.first});
  for (const auto& step : pre_tokenizers_.steps) step->apply(words);
  tokens.reserve(tokens.size() + words.words.size());
  for (size_t i = 0; i < words.words.size(); ++i) encode_word(words[i], cache, tokens);
}

void JsonTokenizer::encode_word(std::string_view word, WordCache& cache, std::vector<int32_t>& tokens) const {
  if (cache.find(word, tokens)) return;
  const size_t before = tokens.size();
  if (pre_tokenizers_.byte_level) {
    std::string characters;
    append_byte_level(word, characters);
    model_->tokenize(characters, tokens);
  } else {
    model_->tokenize(word, tokens);
  }
  cache.add(word, std::span(tokens).subspan(before));
}

std::optional<std::string_view> JsonTokenizer::text_of(int32_t token) const {
  const std::optional<std::string_view> added = added_.text(token);
  return added ? added : model_->vocabulary().text(token);
}

std::optional<std::string> JsonTokenizer::token_text(int32_t token) const {
  const std::optional<std::string_view> text = text_of(token);
  return text ? std::optional(std::string(*text)) : std::nullopt;
}

std::string JsonTokenizer::decoded(std::span<const int32_t> tokens, bool skip_special_tokens) const {
  const TextBudget budget(tokens.size() * kUsualTokenBytes);
  Stream stream(*this, skip_special_tokens);
  for (const int32_t token : tokens) stream.add(token);
  return stream.finish();
}

std::unique_ptr<DecodeStream> JsonTokenizer::decode_stream(bool skip_special_tokens) const {
  return std::make_unique<Stream>(*this, skip_special_tokens);
}

/// Behind those that the file lists itself.
void append_tokens(Json& tokenizer, const Json::Array& more) {
  if (more.empty()) return;
  const Json* listed = tokenizer.find("added_tokens");
  Json::Array all = listed && listed->is_array() ? listed->as_array() : Json::Array{};
  all.insert(all.end(), more.begin(), more.end());
  tokenizer.set("added_tokens", std::move(all));
}

}  // namespace
}  // namespace tokenizers

std::shared_ptr<const Tokenizer> make_tokenizer(TokenizerFiles files, const std::string& source,
                                                std::vector<std::string>* warnings) {
  const auto file = files.find(tokenizers::kFile);
  if (file == files.end()) fail(ErrorKind::not_found, source, " has no ", tokenizers::kFile);
  const std::string where = source + "/" + tokenizers::kFile;
  Json json = Json::parse(file->second, where);
  tokenizers::append_tokens(json, tokenizers::tokens_to_add(files, json, source));
  const tokenizers::Fields tokenizer(json, where);
  const tokenizers::TextBudget budget(file->second.size());  // for added tokens, which are normalized
  const tokenizers::TokenizerSettings settings = tokenizers::read_settings(files, source);
  return std::make_shared<tokenizers::JsonTokenizer>(tokenizer, settings, std::move(files), warnings);
}

}  // namespace bdh
