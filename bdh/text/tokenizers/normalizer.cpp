// Normalizers: the ones of tokenizer.json by name.
#include "bdh/text/tokenizers/normalizer.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/byte_level.h"
#include "bdh/text/tokenizers/charsmap.h"
#include "bdh/text/tokenizers/pattern.h"
#include "bdh/text/tokenizers/text_budget.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

class Form : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void apply(NormalText& normal) const override { normal.text = normalized(normal.text, form_); }

 private:
  NormalForm form_;
};

class Lowercase : public Normalizer {
 public:
  void apply(NormalText& normal) const override { normal.text = lowered(normal.text); }
};

class Strip : public Normalizer {
 public:
  explicit Strip(const Fields& fields)
      : left_(fields.boolean("strip_left")), right_(fields.boolean("strip_right")) {}
  void apply(NormalText& normal) const override {
    std::string& text = normal.text;
    size_t begin = 0, end = text.size();
    while (left_ && begin < end && is_white_space(character_at(text, begin).code))
      begin += character_at(text, begin).bytes;
    while (right_ && end > begin && is_white_space(character_at(text, character_before(text, end)).code))
      end = character_before(text, end);
    normal.first = normal.first && begin == 0;
    text = text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

/// Drops the characters of a kind.
template <class Drop>
void drop_if(NormalText& normal, Drop drop) {
  if (normal.text.empty()) return;
  normal.first = normal.first && !drop(character_at(normal.text, 0).code);
  normal.text = transformed(normal.text, [&](char32_t c, std::string& out) {
    if (!drop(c)) append_character(out, c);
  });
}

class StripAccents : public Normalizer {
 public:
  void apply(NormalText& normal) const override {
    if (!is_ascii(normal.text)) drop_if(normal, is_mark);
  }
};

class Nmt : public Normalizer {
 public:
  void apply(NormalText& normal) const override {
    drop_if(normal, [](char32_t c) {
      return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    });
    normal.text = transformed(normal.text, [](char32_t c, std::string& out) {
      const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                         (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                         c == 0xFEFF || c == 0xFFFD;
      append_character(out, space ? ' ' : c);
    });
  }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const Fields& fields) : text_(fields.short_string("prepend")) {}
  void apply(NormalText& normal) const override {
    if (normal.text.empty()) return;
    TextBudget::grow(text_.size());
    normal.text.insert(0, text_);
  }

 private:
  std::string text_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(const Fields& fields) : pattern_(fields), content_(fields.short_string("content")) {}
  void apply(NormalText& normal) const override {
    std::vector<Match> matches;
    pattern_.find_all(normal.text, matches);
    if (matches.empty()) return;
    const Match& match = matches.front();
    const std::string_view gone = std::string_view(normal.text).substr(match.begin, match.end - match.begin);
    const bool moved = match.begin == 0 && !gone.empty() && (content_.empty() || count_characters(gone) > 1);
    normal.first = normal.first && !moved;
    normal.text = replaced(normal.text, matches, content_);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevel : public Normalizer {
 public:
  void apply(NormalText& normal) const override {
    std::string out;
    append_byte_level(normal.text, out);
    normal.text = std::move(out);
  }
};

class Bert : public Normalizer {
 public:
  explicit Bert(const Fields& fields)
      : clean_(fields.boolean("clean_text")),
        ideographs_(fields.boolean("handle_chinese_chars")),
        lowercase_(fields.boolean("lowercase")),
        strip_accents_(fields.boolean("strip_accents", lowercase_)) {}

  void apply(NormalText& normal) const override {
    if (clean_) clean(normal);
    if (ideographs_ && !is_ascii(normal.text)) set_ideographs_apart(normal);
    if (strip_accents_ && !is_ascii(normal.text)) {
      normal.text = normalized(normal.text, NormalForm::nfd);
      drop_if(normal, is_nonspacing_mark);
    }
    if (lowercase_) normal.text = lowered(normal.text);
  }

 private:
  static bool is_dropped(char32_t c) {
    if (c == '\t' || c == '\n' || c == '\r') return false;
    return c == 0 || c == 0xFFFD || is_control(c);
  }
  static void clean(NormalText& normal) {
    if (normal.text.empty()) return;
    normal.first = normal.first && !is_dropped(character_at(normal.text, 0).code);
    normal.text = transformed(normal.text, [](char32_t c, std::string& out) {
      if (!is_dropped(c)) append_character(out, is_white_space(c) ? ' ' : c);
    });
  }
  static void set_ideographs_apart(NormalText& normal) {
    normal.text = transformed(normal.text, [](char32_t c, std::string& out) {
      const bool apart = is_ideograph(c);
      if (apart) out += ' ';
      append_character(out, c);
      if (apart) out += ' ';
    });
  }

  bool clean_, ideographs_, lowercase_, strip_accents_;
};

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(const Fields& fields)
      : map_(fields.string("precompiled_charsmap"), fields.where("precompiled_charsmap")) {}
  void apply(NormalText& normal) const override { normal.text = map_.apply(normal.text); }

 private:
  Charsmap map_;
};

template <NormalForm form>
std::unique_ptr<const Normalizer> make_form(const Fields&) {
  return std::make_unique<Form>(form);
}

template <class Kind>
std::unique_ptr<const Normalizer> make(const Fields& fields) {
  if constexpr (std::is_constructible_v<Kind, const Fields&>) {
    return std::make_unique<Kind>(fields);
  } else {
    return std::make_unique<Kind>();
  }
}

struct Entry {
  std::string_view type;
  std::unique_ptr<const Normalizer> (*make)(const Fields&);
};

constexpr Entry kKinds[] = {
    {"NFC", make_form<NormalForm::nfc>},
    {"NFD", make_form<NormalForm::nfd>},
    {"NFKC", make_form<NormalForm::nfkc>},
    {"NFKD", make_form<NormalForm::nfkd>},
    {"Lowercase", make<Lowercase>},
    {"Strip", make<Strip>},
    {"StripAccents", make<StripAccents>},
    {"Nmt", make<Nmt>},
    {"Prepend", make<Prepend>},
    {"Replace", make<Replace>},
    {"ByteLevel", make<ByteLevel>},
    {"BertNormalizer", make<Bert>},
    {"Precompiled", make<Precompiled>},
};

}  // namespace

void read_normalizer(const Fields& fields, Normalizers& steps) {
  const std::string& type = fields.string("type");
  if (type == "Sequence") {
    for (const Fields& element : fields.objects("normalizers")) read_normalizer(element, steps);
    return;
  }
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const Entry& entry) { return entry.type == type; });
  if (kind == std::end(kKinds))
    fail(ErrorKind::unsupported, fields.where(), ": bdh has no normalizer ", printable(type));
  steps.push_back(kind->make(fields));
}

}  // namespace bdh::tokenizers
