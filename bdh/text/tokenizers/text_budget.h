// TextBudget: what a tokenizer.json may make the work on one text cost.
#pragma once

#include <cstddef>

namespace bdh::tokenizers {

/// While it lives, it bounds this thread's time in regular expressions and the bytes that replacements add,
/// by a constant and by the bytes of the text that is worked on. Inside another one it changes nothing;
/// without one nothing is bounded.
class TextBudget {
 public:
  explicit TextBudget(size_t text_bytes);
  ~TextBudget();
  TextBudget(const TextBudget&) = delete;
  TextBudget& operator=(const TextBudget&) = delete;

  /// Counts a small step; false when there was too much time between the first of them and this one.
  static bool allows_step();
  /// Counts bytes that a text is about to get longer. Throws Error(bad_file).
  static void grow(size_t bytes);

 private:
  bool outermost_;
};

}  // namespace bdh::tokenizers
