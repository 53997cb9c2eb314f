// Decoders: the ones of tokenizer.json by name.
#include "bdh/text/tokenizers/decoder.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/byte_level.h"
#include "bdh/text/tokenizers/pattern.h"
#include "bdh/text/tokenizers/unicode.h"
#include "bdh/text/utf8.h"

namespace bdh::tokenizers {
namespace {

std::string replace_all(std::string_view text, std::string_view what, std::string_view with) {
  if (what.empty()) return std::string(text);
  std::vector<Match> matches;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size()))
    matches.push_back({at, at + what.size()});
  return replaced(text, matches, with);
}

/// Spaces before punctuation and in English contractions taken out.
std::string cleaned(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kReplacements[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [what, with] : kReplacements)
    if (text.find(what) != text.npos) text = replace_all(text, what, with);
  return text;
}

/// A step that turns each text into another.
template <class Change>
class Mapping : public DecodeStep {
 public:
  explicit Mapping(Change change) : change_(std::move(change)) {}
  void push(std::string_view text) override { next->push(change_(text)); }

 private:
  Change change_;
};

template <class Change>
std::unique_ptr<DecodeStep> mapping(Change change) {
  return std::make_unique<Mapping<Change>>(std::move(change));
}

/// Waits for all parts of a text.
class Whole : public DecodeStep {
 public:
  void push(std::string_view text) override { text_ += text; }
  void finish() override {
    next->push(text_);
    next->finish();
  }

 private:
  std::string text_;
};

class Spaced : public DecodeStep {
 public:
  void push(std::string_view text) override {
    if (!std::exchange(first_, false)) next->push(" ");
    next->push(text);
  }

 private:
  bool first_ = true;
};

class Sink : public DecodeStep {
 public:
  explicit Sink(std::string& out) : out_(out) {}
  void push(std::string_view text) override { out_ += text; }
  void finish() override {}

 private:
  std::string& out_;
};

class ByteLevelStep : public DecodeStep {
 public:
  void push(std::string_view text) override {
    std::string bytes;
    if (!append_bytes(text, bytes)) bytes = text;
    next->push(characters_.push(bytes));
  }
  void finish() override {
    next->push(characters_.finish());
    next->finish();
  }

 private:
  Utf8Stream characters_;
};

class ByteLevel : public Decoder {
 public:
  explicit ByteLevel(const Fields&) {}
  std::unique_ptr<DecodeStep> step() const override { return std::make_unique<ByteLevelStep>(); }
  bool joins() const override { return true; }
};

/// <0x41>: bytes wait for the end of their run, which is valid UTF-8 as a whole or not at all.
class ByteFallbackStep : public DecodeStep {
 public:
  void push(std::string_view text) override {
    const int byte = byte_of(text);
    if (byte >= 0) return run_.push_back(static_cast<char>(byte));
    flush();
    next->push(text);
  }
  void finish() override {
    flush();
    next->finish();
  }

 private:
  static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const auto low = static_cast<char>(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
  }
  /// -1 when the text is not a byte's. A plus sign counts as the package has it: <0x+1>.
  static int byte_of(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
    const int high = text[3] == '+' ? 0 : digit(text[3]), low = digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
  }
  void flush() {
    if (run_.empty()) return;
    if (valid_utf8(run_) == run_) {
      next->push(run_);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) next->push("\xEF\xBF\xBD");
    }
    run_.clear();
  }

  std::string run_;
};

class ByteFallback : public Decoder {
 public:
  explicit ByteFallback(const Fields&) {}
  std::unique_ptr<DecodeStep> step() const override { return std::make_unique<ByteFallbackStep>(); }
};

class Fuse : public Decoder {
 public:
  explicit Fuse(const Fields&) {}
  std::unique_ptr<DecodeStep> step() const override {
    return mapping([](std::string_view text) { return text; });
  }
  std::unique_ptr<DecodeStep> step_in_parts() const override { return step(); }
  bool joins() const override { return true; }
};

class Metaspace : public Decoder {
 public:
  explicit Metaspace(const Fields& fields)
      : drop_first_(fields.boolean("add_prefix_space", true) &&
                    fields.string("prepend_scheme", "always") != "never") {
    append_character(replacement_, fields.character("replacement"));
  }
  std::unique_ptr<DecodeStep> step() const override {
    return mapping([this, drop = drop_first_](std::string_view text) mutable {
      return replace_all(text, replacement_, std::exchange(drop, false) ? "" : " ");
    });
  }
  std::unique_ptr<DecodeStep> step_in_parts() const override {
    return mapping(
        [this](std::string_view text) { return replace_all(text, replacement_, drop_first_ ? "" : " "); });
  }

 private:
  std::string replacement_;
  bool drop_first_;
};

class WordPiece : public Decoder {
 public:
  explicit WordPiece(const Fields& fields)
      : prefix_(fields.short_string("prefix", "##")), cleanup_(fields.boolean("cleanup", true)) {}
  std::unique_ptr<DecodeStep> step() const override {
    return mapping([this, first = true](std::string_view text) mutable {
      std::string word(text);
      if (!std::exchange(first, false))
        word = text.starts_with(prefix_) ? word.substr(prefix_.size()) : " " + word;
      return cleanup_ ? cleaned(std::move(word)) : word;
    });
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

/// A word's end is a space, but for the last one's, so that the newest text waits for another.
class BpeStep : public DecodeStep {
 public:
  explicit BpeStep(std::string_view suffix) : suffix_(suffix) {}
  void push(std::string_view text) override {
    if (waiting_) next->push(replace_all(last_, suffix_, " "));
    last_ = text;
    waiting_ = true;
  }
  void finish() override {
    if (waiting_) next->push(replace_all(last_, suffix_, ""));
    next->finish();
  }

 private:
  std::string_view suffix_;
  std::string last_;
  bool waiting_ = false;
};

class Bpe : public Decoder {
 public:
  explicit Bpe(const Fields& fields) : suffix_(fields.short_string("suffix", "</w>")) {}
  std::unique_ptr<DecodeStep> step() const override { return std::make_unique<BpeStep>(suffix_); }

 private:
  std::string suffix_;
};

/// Takes a character off both ends, so many times at most.
class Strip : public Decoder {
 public:
  explicit Strip(const Fields& fields)
      : start_(fields.integer("start", 0, INT64_MAX)), stop_(fields.integer("stop", 0, INT64_MAX)) {
    append_character(content_, fields.character("content"));
  }
  std::unique_ptr<DecodeStep> step() const override {
    return mapping([this](std::string_view text) {
      int64_t left = start_;
      return stripped_end(stripped_start(text, left));
    });
  }
  std::unique_ptr<DecodeStep> step_in_parts() const override {
    if (stop_ > 0) return nullptr;
    return mapping([this, left = start_](std::string_view text) mutable {
      const std::string_view rest = stripped_start(text, left);
      if (!rest.empty()) left = 0;
      return rest;
    });
  }

 private:
  std::string_view stripped_start(std::string_view text, int64_t& left) const {
    for (; left > 0 && text.starts_with(content_); --left) text.remove_prefix(content_.size());
    return text;
  }
  std::string_view stripped_end(std::string_view text) const {
    for (int64_t left = stop_; left > 0 && text.ends_with(content_); --left)
      text.remove_suffix(content_.size());
    return text;
  }

  std::string content_;
  int64_t start_, stop_;
};

class Replace : public Decoder {
 public:
  explicit Replace(const Fields& fields) : pattern_(fields), content_(fields.short_string("content")) {}
  std::unique_ptr<DecodeStep> step() const override {
    return mapping([this](std::string_view text) {
      std::vector<Match> matches;
      pattern_.find_all(text, matches);
      return replaced(text, matches, content_);
    });
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class CtcStep : public DecodeStep {
 public:
  CtcStep(std::string_view pad, std::string_view delimiter, bool cleanup)
      : pad_(pad), delimiter_(delimiter), cleanup_(cleanup) {}
  void push(std::string_view text) override {
    if (!first_ && text == last_) return;
    first_ = false;
    last_ = text;
    std::string word = replace_all(text, pad_, "");
    if (cleanup_) word = replace_all(cleaned(std::move(word)), delimiter_, " ");
    if (!word.empty()) next->push(word);
  }

 private:
  std::string_view pad_, delimiter_;
  bool cleanup_;
  bool first_ = true;
  std::string last_;
};

class Ctc : public Decoder {
 public:
  explicit Ctc(const Fields& fields)
      : pad_(fields.short_string("pad_token", "<pad>")),
        delimiter_(fields.short_string("word_delimiter_token", "|")),
        cleanup_(fields.boolean("cleanup", true)) {}
  std::unique_ptr<DecodeStep> step() const override {
    return std::make_unique<CtcStep>(pad_, delimiter_, cleanup_);
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

template <class Kind>
std::unique_ptr<const Decoder> make(const Fields& fields) {
  return std::make_unique<Kind>(fields);
}

struct Entry {
  std::string_view type;
  std::unique_ptr<const Decoder> (*make)(const Fields&);
};

constexpr Entry kKinds[] = {
    {"ByteLevel", make<ByteLevel>}, {"ByteFallback", make<ByteFallback>}, {"Fuse", make<Fuse>},
    {"Metaspace", make<Metaspace>}, {"WordPiece", make<WordPiece>},       {"BPEDecoder", make<Bpe>},
    {"Strip", make<Strip>},         {"Replace", make<Replace>},           {"CTC", make<Ctc>},
};

}  // namespace

void read_decoder(const Fields& fields, Decoders& decoders) {
  const std::string& type = fields.string("type");
  if (type == "Sequence") {
    const std::vector<Fields> elements = fields.objects("decoders");
    for (const Fields& element : elements) read_decoder(element, decoders);
    if (elements.empty()) decoders.push_back(std::make_unique<Fuse>(fields));
    return;
  }
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const Entry& entry) { return entry.type == type; });
  if (kind == std::end(kKinds))
    fail(ErrorKind::unsupported, fields.where(), ": bdh has no decoder ", printable(type));
  decoders.push_back(kind->make(fields));
}

DecodePipeline::DecodePipeline(const Decoders& decoders) {
  bool in_parts = false;
  for (const auto& decoder : decoders) {
    std::unique_ptr<DecodeStep> step = in_parts ? decoder->step_in_parts() : decoder->step();
    if (!step) {
      steps_.push_back(std::make_unique<Whole>());
      step = decoder->step();
      in_parts = false;
    }
    steps_.push_back(std::move(step));
    in_parts = in_parts || decoder->joins();
  }
  if (decoders.empty()) steps_.push_back(std::make_unique<Spaced>());
  steps_.push_back(std::make_unique<Sink>(out_));
  for (size_t i = 0; i + 1 < steps_.size(); ++i) steps_[i]->next = steps_[i + 1].get();
}

std::string DecodePipeline::take() { return std::exchange(out_, {}); }

}  // namespace bdh::tokenizers
