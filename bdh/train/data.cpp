// Texts through a tokenizer, cached.
#include "bdh/train/data.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"
#include "bdh/base/sha256.h"
#include "bdh/train/jsonl.h"
#include "bdh/train/text_files.h"
#include "bdh/train/token_cache.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPiece = 1 << 20;  // bytes or tokens that are worked on at once
constexpr size_t kMaxTextBytes = 2'000'000'000;
constexpr size_t kMaxUtf8Warnings = 5;

void add(Sha256& sum, std::string_view text) { sum.add(std::as_bytes(std::span(text))); }

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Says how far the texts are read, and stops where it is asked to.
class Meter {
 public:
  Meter(const DataOptions& options, uint64_t total) : progress_(options.progress), total_(total) {}
  void add(uint64_t bytes) {
    done_ += bytes;
    if (progress_ && !progress_(done_, total_)) fail(ErrorKind::cancelled, "reading the texts was stopped");
  }

 private:
  const std::function<bool(uint64_t, uint64_t)>& progress_;
  uint64_t total_, done_ = 0;
};

/// A file of texts, and what tells whether it was changed since.
struct TextFile {
  fs::path path;
  uint64_t bytes = 0;
  fs::file_time_type changed;

  explicit TextFile(fs::path where) : path(std::move(where)) {
    std::error_code error;
    bytes = fs::file_size(path, error);
    if (!error) changed = fs::last_write_time(path, error);
    if (error) fail(ErrorKind::io, "cannot read ", path.string(), ": ", error.message());
  }
  bool operator==(const TextFile&) const = default;
  bool lines() const { return path.extension() == ".jsonl"; }
};

std::vector<TextFile> text_files(const DataOptions& options, std::vector<std::string>& warnings) {
  std::vector<TextFile> files;
  for (fs::path& path : find_text_files(options.paths, options.cache, warnings))
    files.emplace_back(std::move(path));
  return files;
}

uint64_t bytes_of(const std::vector<TextFile>& files) {
  uint64_t bytes = 0;
  for (const TextFile& file : files) bytes += file.bytes;
  return bytes;
}

/// SHA-256 of all that the tokens depend on, which names a cache.
std::string key_of(const std::vector<TextFile>& files, const DataOptions& options,
                   const Tokenizer& tokenizer) {
  Meter meter(options, bytes_of(files));
  Sha256 sum;
  add(sum, concat(tokenizer_hash(tokenizer), "\n", options.text_field.size(), " ", options.text_field, "\n"));
  for (const TextFile& file : files) {
    const std::string hash = sha256_of_file(file.path, [&](size_t bytes) { meter.add(bytes); });
    add(sum, concat(file.lines() ? "lines " : "text ", hash, "\n"));
  }
  return sum.finish();
}

void require_token(int32_t largest, int64_t vocab, const std::string& where) {
  if (largest < vocab) return;
  fail(ErrorKind::invalid_argument, where, ": has token ", largest, ", but the model has a vocabulary of ",
       vocab, "; train a model that has all of the tokenizer's tokens");
}

using TokenSink = std::function<void(std::span<const int32_t>)>;

/// Reads texts one after the other, and hands on their tokens.
class TextReader {
 public:
  TextReader(const DataOptions& options, const Tokenizer& tokenizer, int64_t vocab, uint64_t total_bytes,
             std::vector<std::string>& warnings, TokenSink sink)
      : options_(options),
        tokenizer_(tokenizer),
        vocab_(vocab),
        bytes_(dynamic_cast<const ByteTokenizer*>(&tokenizer) != nullptr),
        meter_(options, total_bytes),
        warnings_(warnings),
        sink_(std::move(sink)) {}

  void read(const TextFile& file) {
    const auto mapped = MappedFile::open(file.path);
    if (file.lines()) {
      read_lines(mapped->bytes(), file.path.string());
    } else if (bytes_) {
      read_bytes(mapped->bytes(), file.path.string());
    } else {
      read_whole(mapped->bytes(), file.path.string());
    }
    if (TextFile(file.path) != file)
      fail(ErrorKind::bad_file, file.path.string(), ": was changed while it was read; start again");
  }
  /// Bytes of the texts, line breaks between them too.
  uint64_t text_bytes() const { return text_bytes_; }

 private:
  void read_lines(std::span<const std::byte> bytes, const std::string& name) {
    uint64_t told = 0;
    read_json_lines(text_of(bytes), name, options_.text_field, [&](const JsonLine& line) {
      if (!line.text.empty()) add_text(line.text, concat(name, ", line ", line.number));
      meter_.add(line.end - std::exchange(told, line.end));
    });
    meter_.add(bytes.size() - told);
  }

  void read_bytes(std::span<const std::byte> bytes, const std::string& name) {
    if (!bytes.empty()) add_separator(name);
    while (!bytes.empty()) {
      const std::span<const std::byte> piece = bytes.first(std::min(kPiece, bytes.size()));
      add_tokens(tokenizer_.encode(text_of(piece)), name);
      text_bytes_ += piece.size();
      release_pages(piece);
      meter_.add(piece.size());
      bytes = bytes.subspan(piece.size());
    }
  }

  void read_whole(std::span<const std::byte> bytes, const std::string& name) {
    if (bytes.size() > kMaxTextBytes)
      fail(ErrorKind::bad_file, name, ": is one text of ", format_bytes(bytes.size()),
           ", and this tokenizer takes at most ", format_bytes(kMaxTextBytes),
           "; cut it into several files, or make it a .jsonl with a text a line");
    if (!bytes.empty()) {
      warn_of_bytes(text_of(bytes), name);
      add_text(text_of(bytes), name);
    }
    meter_.add(bytes.size());
  }

  void warn_of_bytes(std::string_view text, const std::string& name) {
    if (utf8_warnings_ == kMaxUtf8Warnings || is_utf8(text)) return;
    size_t at = 0;
    while (const size_t length = utf8_length(text.substr(at))) at += length;
    ++utf8_warnings_;
    warnings_.push_back(concat(name, ": is not UTF-8 at byte ", at, "; such bytes count as U+FFFD"));
  }

  void add_text(std::string_view text, const std::string& where) {
    try {
      add_separator(where);
      add_tokens(tokenizer_.encode(text), where);
    } catch (const Error& error) {
      if (std::string_view(error.what()).starts_with(where)) throw;
      fail(error.kind(), where, ": ", error.what());
    }
    text_bytes_ += text.size();
  }

  void add_separator(const std::string& where) {
    if (!std::exchange(begun_, true)) return;
    if (const std::optional<int32_t> eos = tokenizer_.eos()) return add_tokens({*eos}, where);
    const std::vector<int32_t> line_break = tokenizer_.encode("\n");
    add_tokens(line_break, where);
    text_bytes_ += line_break.empty() ? 0 : 1;
  }

  void add_tokens(const std::vector<int32_t>& tokens, const std::string& where) {
    for (std::span<const int32_t> left(tokens); !left.empty();) {
      const std::span<const int32_t> piece = left.first(std::min(kPiece, left.size()));
      require_token(*std::max_element(piece.begin(), piece.end()), vocab_, where);
      sink_(piece);
      left = left.subspan(piece.size());
    }
  }

  const DataOptions& options_;
  const Tokenizer& tokenizer_;
  int64_t vocab_;
  bool bytes_;  // are the tokens
  Meter meter_;
  std::vector<std::string>& warnings_;
  TokenSink sink_;
  uint64_t text_bytes_ = 0;
  size_t utf8_warnings_ = 0;
  bool begun_ = false;  // a text was read
};

TokenData tokens_in_memory(const std::vector<TextFile>& files, const DataOptions& options,
                           const Tokenizer& tokenizer, int64_t vocab, std::vector<std::string>& warnings) {
  const int width = token_width(tokenizer.vocab_size());
  const auto bytes = std::make_shared<std::vector<std::byte>>();
  TextReader reader(options, tokenizer, vocab, bytes_of(files), warnings,
                    [&](std::span<const int32_t> tokens) {
                      const std::vector<std::byte> packed = packed_tokens(tokens, width);
                      bytes->insert(bytes->end(), packed.begin(), packed.end());
                    });
  for (const TextFile& file : files) reader.read(file);
  const auto count = static_cast<int64_t>(bytes->size()) / width;
  return {bytes, bytes->data(), count, width, reader.text_bytes()};
}

/// Nothing where there is no cache, or none that is whole.
std::optional<TokenData> cached_tokens(const fs::path& cache, const std::string& key,
                                       std::vector<std::string>& warnings) {
  try {
    return read_token_cache(cache, key);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::not_found) warnings.emplace_back(error.what());
    return {};
  }
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    fail(ErrorKind::io, "cannot make directory '", folder.string(), "': ", error.message(),
         "; choose a directory you may write to");
}

void require_vocabulary(const TokenData& data, int64_t vocab, const std::string& where) {
  std::vector<int32_t> tokens;
  for (int64_t at = 0; at < data.size(); at += static_cast<int64_t>(tokens.size())) {
    tokens.resize(std::min(kPiece, static_cast<size_t>(data.size() - at)));
    data.copy(at, static_cast<int64_t>(tokens.size()), tokens.data());
    const auto [least, largest] = std::minmax_element(tokens.begin(), tokens.end());
    if (*least < 0) fail(ErrorKind::bad_file, where, ": has a token below 0; remove it, and it is made anew");
    require_token(*largest, vocab, where);
  }
}

TokenData tokens_through_cache(const std::vector<TextFile>& files, const DataOptions& options,
                               const Tokenizer& tokenizer, int64_t vocab,
                               std::vector<std::string>& warnings) {
  const std::string key = key_of(files, options, tokenizer);
  const fs::path cache = options.cache / (key + ".tokens");
  std::optional<TokenData> data = cached_tokens(cache, key, warnings);
  if (!data) {
    make_folder(options.cache);
    TokenCacheWriter writer(cache, key, token_width(tokenizer.vocab_size()));
    TextReader reader(options, tokenizer, vocab, bytes_of(files), warnings,
                      [&](std::span<const int32_t> tokens) { writer.add(tokens); });
    for (const TextFile& file : files) reader.read(file);
    writer.commit(reader.text_bytes());
    data = read_token_cache(cache, key);
  }
  require_vocabulary(*data, vocab, cache.string());
  return *data;
}

}  // namespace

TokenData load_tokens(const DataOptions& options, const Tokenizer& tokenizer, int64_t vocab,
                      std::vector<std::string>* warnings) {
  std::vector<std::string> ignored;
  std::vector<std::string>& told = warnings ? *warnings : ignored;
  const std::vector<TextFile> files = text_files(options, told);
  TokenData data = options.cache.empty() ? tokens_in_memory(files, options, tokenizer, vocab, told)
                                         : tokens_through_cache(files, options, tokenizer, vocab, told);
  if (data.size() == 0)
    fail(ErrorKind::invalid_argument, files.front().path.string(), ": there is no text in ",
         files.size() == 1 ? "it" : "any of the files", "; name one that has");
  return data;
}

std::string tokenizer_hash(const Tokenizer& tokenizer) {
  const TokenizerFiles files = tokenizer.files();
  Sha256 sum;
  add(sum, files.empty() ? concat("bytes ", tokenizer.vocab_size(), "\n") : "files\n");
  for (const auto& [name, bytes] : files) {
    add(sum, concat(name, " ", bytes.size(), "\n"));
    add(sum, bytes);
  }
  return sum.finish();
}

}  // namespace bdh
