// Normalizers: what is done to a text before it is cut into words.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {

/// A text on its way to the model, and whether its first character is the first of the text it came from:
/// Metaspace's "first" asks.
struct NormalText {
  std::string text;
  bool first = true;
};

/// Immutable: any number of threads may share it.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Valid UTF-8 in, valid UTF-8 out.
  virtual void apply(NormalText& normal) const = 0;
};

using Normalizers = std::vector<std::unique_ptr<const Normalizer>>;

/// Appends the normalizer, or those of a Sequence. Throws Error(bad_file), Error(unsupported).
void read_normalizer(const Fields& fields, Normalizers& steps);

}  // namespace bdh::tokenizers
