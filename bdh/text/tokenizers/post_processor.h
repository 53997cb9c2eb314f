// Post-processors: the special tokens around a text.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {

/// Where special tokens go: runs of them, with the text between and around.
class PostProcessor {
 public:
  PostProcessor() = default;
  /// The "post_processor" of tokenizer.json. Throws Error(bad_file), Error(unsupported).
  explicit PostProcessor(const Fields& fields);

  /// The tokens of a text with the special ones around. Only what a single text needs; pairs are not
  /// supported.
  std::vector<int32_t> apply(std::vector<int32_t> tokens) const;
  /// How many special tokens it adds.
  size_t added() const;

 private:
  /// Special tokens, or the text where there are none.
  using Piece = std::vector<int32_t>;
  using Template = std::vector<Piece>;

  void read(const Fields& fields);
  void read_template(const Fields& fields);

  std::vector<Template> templates_;  // one around the other
};

}  // namespace bdh::tokenizers
