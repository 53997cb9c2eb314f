// Truncation and padding as tokenizer.json sets them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {

class Limits {
 public:
  /// The members "truncation" and "padding". Throws Error(bad_file), Error(unsupported).
  explicit Limits(const Fields& tokenizer);

  /// Cuts off what is too long, leaving room for `added` tokens.
  void truncate(std::vector<int32_t>& tokens, size_t added) const;
  void pad(std::vector<int32_t>& tokens) const;

 private:
  void read_padding(const Fields& padding);

  std::optional<size_t> max_length_;
  bool truncate_left_ = false;
  bool pads_ = false;
  size_t pad_length_ = 0, pad_multiple_ = 1;
  bool pad_left_ = false;
  int32_t pad_token_ = 0;
};

}  // namespace bdh::tokenizers
