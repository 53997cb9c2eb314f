// WordLevel: whole words, or the unknown-token.
#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/model.h"

namespace bdh::tokenizers {
namespace {

class WordLevel : public Model {
 public:
  explicit WordLevel(const Fields& fields)
      : Model(read_vocabulary(*fields.find("vocab"), fields.where("vocab"))),
        where_(fields.where()),
        unknown_text_(fields.string("unk_token", "<unk>")),
        unknown_(vocabulary().find(unknown_text_)) {}

  void tokenize(std::string_view word, std::vector<int32_t>& tokens) const override {
    const int32_t found = vocabulary().find(word);
    if (found == Vocabulary::kNone && unknown_ == Vocabulary::kNone)
      fail(ErrorKind::bad_file, where_, ": the vocabulary has neither the word ", printable(word),
           " nor the unk_token ", printable(unknown_text_));
    tokens.push_back(found == Vocabulary::kNone ? unknown_ : found);
  }

 private:
  std::string where_, unknown_text_;
  int32_t unknown_;
};

}  // namespace

std::unique_ptr<Model> read_word_level(const Fields& fields) {
  fields.object("vocab");
  return std::make_unique<WordLevel>(fields);
}

}  // namespace bdh::tokenizers
