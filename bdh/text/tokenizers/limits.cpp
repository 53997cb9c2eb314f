// Truncation and padding of one text's tokens.
#include "bdh/text/tokenizers/limits.h"

#include "bdh/base/error.h"
#include "bdh/base/printable.h"

namespace bdh::tokenizers {
namespace {

constexpr int64_t kMaxPadding = 1 << 24;  // tokens

bool is_left(const Fields& fields) {
  const std::string direction = fields.string("direction", "Right");
  if (direction != "Left" && direction != "Right")
    fail(ErrorKind::bad_file, fields.where("direction"), ": expected Left or Right, found ",
         printable(direction));
  return direction == "Left";
}

}  // namespace

Limits::Limits(const Fields& tokenizer) {
  if (tokenizer.find("truncation")) {
    const Fields truncation = tokenizer.object("truncation");
    const std::string strategy = truncation.string("strategy", "LongestFirst");
    if (strategy != "LongestFirst" && strategy != "OnlyFirst")
      fail(ErrorKind::unsupported, truncation.where("strategy"), ": bdh encodes single texts, which ",
           printable(strategy), " does not truncate");
    max_length_ = static_cast<size_t>(truncation.integer("max_length", 0, INT64_MAX));
    truncate_left_ = is_left(truncation);
  }
  if (tokenizer.find("padding")) read_padding(tokenizer.object("padding"));
}

void Limits::read_padding(const Fields& padding) {
  pads_ = true;
  const Json* strategy = padding.find("strategy");
  if (strategy && strategy->is_object()) {
    pad_length_ = static_cast<size_t>(padding.object("strategy").integer("Fixed", 0, kMaxPadding));
  } else if (padding.string("strategy") != "BatchLongest") {
    fail(ErrorKind::unsupported, padding.where("strategy"), ": bdh knows BatchLongest and Fixed");
  }
  pad_multiple_ = static_cast<size_t>(padding.integer("pad_to_multiple_of", 0, kMaxPadding, 1));
  pad_left_ = is_left(padding);
  pad_token_ = static_cast<int32_t>(padding.integer("pad_id", 0, kTokenLimit - 1, 0));
}

/// Where the special tokens alone are too many, the package does not truncate.
void Limits::truncate(std::vector<int32_t>& tokens, size_t added) const {
  if (!max_length_ || *max_length_ < added || tokens.size() <= *max_length_ - added) return;
  const auto surplus = static_cast<ptrdiff_t>(tokens.size() - (*max_length_ - added));
  if (truncate_left_) {
    tokens.erase(tokens.begin(), tokens.begin() + surplus);
  } else {
    tokens.erase(tokens.end() - surplus, tokens.end());
  }
}

void Limits::pad(std::vector<int32_t>& tokens) const {
  if (!pads_) return;
  size_t length = pad_length_ > 0 ? pad_length_ : tokens.size();
  if (pad_multiple_ > 1) length = (length + pad_multiple_ - 1) / pad_multiple_ * pad_multiple_;
  if (tokens.size() >= length) return;
  tokens.insert(pad_left_ ? tokens.begin() : tokens.end(), length - tokens.size(), pad_token_);
}

}  // namespace bdh::tokenizers
