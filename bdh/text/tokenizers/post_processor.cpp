// Post-processors: every kind as templates.
#include "bdh/text/tokenizers/post_processor.h"

#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kMaxTokens = 1'000'000;  // that a template adds

/// ["[CLS]", 101]
std::vector<int32_t> text_and_token(const Fields& fields, std::string_view key) {
  const Json::Array& pair = fields.array(key);
  if (pair.size() != 2) fail(ErrorKind::bad_file, fields.where(key), ": expected [text, token]");
  return {token_id(pair[1], fields.where(key))};
}

}  // namespace

PostProcessor::PostProcessor(const Fields& fields) {
  read(fields);
  if (added() > kMaxTokens)
    fail(ErrorKind::unsupported, fields.where(), ": it adds more than ", kMaxTokens, " tokens");
}

void PostProcessor::read(const Fields& fields) {
  const std::string& type = fields.string("type");
  if (type == "Sequence") {
    for (const Fields& element : fields.objects("processors")) read(element);
  } else if (type == "TemplateProcessing") {
    read_template(fields);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    templates_.push_back({text_and_token(fields, "cls"), {}, text_and_token(fields, "sep")});
  } else if (type != "ByteLevel") {  // ByteLevel only changes offsets
    fail(ErrorKind::unsupported, fields.where(), ": bdh has no post-processor ", printable(type));
  }
}

void PostProcessor::read_template(const Fields& fields) {
  Template pieces;
  size_t texts = 0;
  for (const Fields& piece : fields.objects("single")) {
    if (piece.find("Sequence")) {
      const Fields sequence = piece.object("Sequence");
      if (sequence.string("id") != "A" || ++texts > 1)
        fail(ErrorKind::unsupported, sequence.where(), ": bdh knows templates with one text, $A");
      pieces.emplace_back();
      continue;
    }
    const Fields special = piece.object("SpecialToken");
    const Fields named = fields.object("special_tokens").object(special.string("id"));
    Piece tokens;
    for (const Json& token : named.array("ids")) tokens.push_back(token_id(token, named.where("ids")));
    if (!tokens.empty()) pieces.push_back(std::move(tokens));
    if (pieces.size() > kMaxTokens) fail(ErrorKind::bad_file, fields.where("single"), ": it is too long");
  }
  templates_.push_back(std::move(pieces));
}

std::vector<int32_t> PostProcessor::apply(std::vector<int32_t> tokens) const {
  for (const Template& pieces : templates_) {
    std::vector<int32_t> around;
    for (const Piece& piece : pieces) {
      const std::vector<int32_t>& part = piece.empty() ? tokens : piece;
      around.insert(around.end(), part.begin(), part.end());
    }
    tokens = std::move(around);
  }
  return tokens;
}

size_t PostProcessor::added() const {
  size_t count = 0;
  for (const Template& pieces : templates_)
    for (const Piece& piece : pieces) count += piece.size();
  return count;
}

}  // namespace bdh::tokenizers
