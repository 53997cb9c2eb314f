// ByT5's tokens: bytes, and added tokens with the spaces around them.
#include "bdh/text/byt5.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/utf8.h"

namespace bdh {
namespace {

constexpr int32_t kPad = 0, kEos = 1, kUnknown = 2, kOffset = 3, kBytes = 256;
constexpr size_t kMaxTextBytes = 4096;
constexpr int64_t kMaxToken = 1 << 24;
constexpr const char* kConfigName = "tokenizer_config.json";
constexpr const char* kAddedName = "added_tokens.json";

// What Python's str.strip() takes away, in UTF-8.
constexpr std::array<std::string_view, 29> kSpaces{
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1c",         "\x1d",         "\x1e",         "\x1f",         " ",
    "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
    "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
    "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
    "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};

std::string_view without_spaces_before(std::string_view text) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view space : kSpaces) {
      if (!text.starts_with(space)) continue;
      text.remove_prefix(space.size());
      found = true;
    }
  }
  return text;
}

std::string_view without_spaces_behind(std::string_view text) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view space : kSpaces) {
      if (!text.ends_with(space)) continue;
      text.remove_suffix(space.size());
      found = true;
    }
  }
  return text;
}

bool flag(const Json& object, std::string_view key, bool fallback) {
  const Json* value = object.find(key);
  return value && value->is_bool() ? value->as_bool() : fallback;
}

void add_bytes(std::vector<int32_t>& tokens, std::string_view text) {
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c) + kOffset);
}

// Characters that are whole; what can never become one is left out.
std::string valid_parts(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t length = utf8_length(bytes);
    text += bytes.substr(0, length);
    bytes.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

}  // namespace

Byt5Tokenizer::Byt5Tokenizer(TokenizerFiles files, const std::string& source) : files_(std::move(files)) {
  add(kPad, {"<pad>", true, true, true});
  add(kEos, {"</s>", true, true, true});
  add(kUnknown, {"<unk>", true, true, true});
  limit_ = kBytes + kOffset;
  const auto config = files_.find(kConfigName);
  if (config != files_.end())
    read_config(Json::parse(config->second, source + "/" + kConfigName), source + "/" + kConfigName);
  const bool listed =
      config != files_.end() && Json::parse(config->second, source).find("added_tokens_decoder");
  const auto added = files_.find(kAddedName);
  if (added != files_.end() && !listed)
    read_added_tokens(Json::parse(added->second, source + "/" + kAddedName), source + "/" + kAddedName);
  special_ = {{}, kEos, kPad, kUnknown};
}

void Byt5Tokenizer::add(int32_t token, Added added) {
  if (added.text.empty()) return;
  limit_ = std::max<int64_t>(limit_, int64_t{token} + 1);
  longest_ = std::max(longest_, added.text.size());
  starts_[static_cast<unsigned char>(added.text[0])] = true;
  by_text_[added.text] = token;
  added_.insert_or_assign(token, std::move(added));
}

void Byt5Tokenizer::read_config(const Json& config, const std::string& where) {
  const Json* listed = config.find("added_tokens_decoder");
  if (!listed) return;
  for (const auto& [key, value] : listed->as_object()) {
    int64_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    const Json* content = value.find("content");
    const bool right = parsed.ec == std::errc() && parsed.ptr == key.data() + key.size() && token >= 0 &&
                       token < kMaxToken && content && content->is_string() &&
                       content->as_string().size() <= kMaxTextBytes;
    if (!right)
      fail(ErrorKind::bad_file, where, ": added_tokens_decoder: ", printable(key), " is no added token");
    add(static_cast<int32_t>(token), {content->as_string(), flag(value, "lstrip", false),
                                      flag(value, "rstrip", false), flag(value, "special", false)});
  }
}

void Byt5Tokenizer::read_added_tokens(const Json& tokens, const std::string& where) {
  for (const auto& [text, value] : tokens.as_object()) {
    const bool right = value.is_integer() && value.as_integer() >= 0 && value.as_integer() < kMaxToken &&
                       text.size() <= kMaxTextBytes;
    if (!right) fail(ErrorKind::bad_file, where, ": ", printable(text), " is no added token");
    add(static_cast<int32_t>(value.as_integer()), {text, false, false, text.starts_with("<extra_id_")});
  }
}

const std::pair<const std::string, int32_t>* Byt5Tokenizer::longest_at(std::string_view text,
                                                                       size_t at) const {
  if (!starts_[static_cast<unsigned char>(text[at])]) return nullptr;
  for (size_t length = std::min(longest_, text.size() - at); length > 0; --length) {
    const auto found = by_text_.find(text.substr(at, length));
    if (found != by_text_.end()) return &*found;
  }
  return nullptr;
}

std::vector<int32_t> Byt5Tokenizer::encode(std::string_view raw) const {
  const std::string whole = valid_utf8(raw);
  const std::string_view text = whole;
  std::vector<int32_t> tokens;
  size_t from = 0;
  bool strip = false;  // the spaces at `from` belong to the token before
  const auto part = [&](size_t end) {
    const std::string_view piece = text.substr(from, end - from);
    return strip ? without_spaces_before(piece) : piece;
  };
  for (size_t at = 0; at < text.size();) {
    const auto* found = longest_at(text, at);
    if (!found) {
      ++at;
      continue;
    }
    const Added& added = added_.at(found->second);
    const std::string_view before = part(at);
    add_bytes(tokens, added.lstrip ? without_spaces_behind(before) : before);
    tokens.push_back(found->second);
    at += found->first.size();
    from = at;
    strip = added.rstrip;
  }
  add_bytes(tokens, part(text.size()));
  return tokens;
}

std::vector<int32_t> Byt5Tokenizer::encode_with(const EncodeOptions& options, std::string_view text) const {
  std::vector<int32_t> tokens = encode(text);
  if (options.special_tokens && (tokens.empty() || tokens.back() != kEos)) tokens.push_back(kEos);
  return tokens;
}

std::string Byt5Tokenizer::bytes_of(int32_t token) const {
  const auto found = added_.find(token);
  if (found != added_.end()) return found->second.text;
  if (token < kOffset || token >= kBytes + kOffset) return {};
  return std::string(1, static_cast<char>(token - kOffset));
}

std::string Byt5Tokenizer::decoded(std::span<const int32_t> tokens, bool skip_special_tokens) const {
  const auto stream = decode_stream(skip_special_tokens);
  std::string text;
  for (const int32_t token : tokens) text += stream->push(token);
  return text + stream->finish();
}

class Byt5Tokenizer::Stream : public DecodeStream {
 public:
  Stream(const Byt5Tokenizer& tokenizer, bool skip) : tokenizer_(tokenizer), skip_(skip) {}

  std::string push(int32_t token) override {
    const auto added = tokenizer_.added_.find(token);
    if (added != tokenizer_.added_.end() && skip_ && added->second.special) return {};
    pending_ += tokenizer_.bytes_of(token);
    const size_t whole = pending_.size() - unfinished_bytes(pending_);
    std::string text = valid_parts(std::string_view(pending_).substr(0, whole));
    pending_.erase(0, whole);
    return text;
  }
  std::string finish() override {
    pending_.clear();
    return {};
  }

 private:
  // Bytes at the end that may still become a character.
  static size_t unfinished_bytes(std::string_view bytes) {
    for (size_t length = 1; length <= std::min<size_t>(3, bytes.size()); ++length) {
      const auto first = static_cast<uint8_t>(bytes[bytes.size() - length]);
      if ((first & 0xc0) == 0x80) continue;
      const size_t needed = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
      return needed > length ? length : 0;
    }
    return 0;
  }

  const Byt5Tokenizer& tokenizer_;
  bool skip_;
  std::string pending_;
};

std::unique_ptr<DecodeStream> Byt5Tokenizer::decode_stream(bool skip_special_tokens) const {
  return std::make_unique<Stream>(*this, skip_special_tokens);
}

std::optional<std::string> Byt5Tokenizer::token_text(int32_t token) const {
  if (token < 0 || token >= limit_) return {};
  return bytes_of(token);
}

}  // namespace bdh
