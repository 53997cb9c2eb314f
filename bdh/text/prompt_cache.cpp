// The files of the cache: POINT.session holds what a session remembered there, POINT.seen that a prompt came
// by.
#include "bdh/text/prompt_cache.h"

#include <algorithm>
#include <cstdio>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/model/horizon.h"
#include "bdh/model/session_file.h"

namespace bdh {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMostSeen = 65536;

std::string hash_of(const std::string& before, std::span<const int32_t> tokens) {
  Sha256 sum;
  sum.add(std::as_bytes(std::span(before)));
  sum.add(std::as_bytes(tokens));
  return sum.finish();
}

// Everything that decides the bits of a state, but the tokens.
std::string kind_of(const Session& session, int64_t grid) {
  const Weights& weights = session.weights();
  return concat(weights.hash(), " ", name_of(weights.dtype()), " ", weights.backend().name(), " ",
                horizon_text(session.options().horizon), " ", name_of(session.options().state_dtype), " ",
                grid);
}

struct Kept {
  fs::file_time_type used;
  uint64_t bytes;
  fs::path path;
};

// The files with that extension, those used longest ago first. What other processes remove meanwhile is left
// out.
std::vector<Kept> files(const fs::path& directory, const char* extension) {
  std::vector<Kept> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() != extension) continue;
    std::error_code gone;
    const Kept file{entry->last_write_time(gone), entry->file_size(gone), entry->path()};
    if (!gone) found.push_back(file);
  }
  std::sort(found.begin(), found.end(), [](const Kept& a, const Kept& b) { return a.used < b.used; });
  return found;
}

void touch(const fs::path& path) {
  std::error_code ignored;
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
}

void drop(const fs::path& path) {
  std::error_code ignored;
  fs::remove(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

// names[i] stands for the first (i + 1) * grid tokens.
struct PromptCache::Points {
  int64_t grid;
  std::vector<std::string> names;

  Points(const Session& session, std::span<const int32_t> tokens, int64_t step) : grid(step) {
    const auto size = static_cast<size_t>(grid);
    std::string name = kind_of(session, grid);
    for (size_t end = size; end < tokens.size(); end += size) {
      name = hash_of(name, tokens.subspan(end - size, size));
      names.push_back(name);
    }
  }
  int64_t count() const { return static_cast<int64_t>(names.size()); }
};

PromptCache::PromptCache(fs::path directory, uint64_t max_bytes, std::function<void(const std::string&)> warn)
    : directory_(std::move(directory)), max_bytes_(max_bytes), warn_(std::move(warn)) {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (!fs::is_directory(directory_)) {
    fail(ErrorKind::io, "cannot keep prompts in ", directory_.string(), ": ",
         error ? error.message() : "it is no directory", "; name another directory");
  }
}

fs::path PromptCache::state_file(const std::string& point) const { return directory_ / (point + ".session"); }
fs::path PromptCache::seen_file(const std::string& point) const { return directory_ / (point + ".seen"); }

int64_t PromptCache::read(Session& session, std::span<const int32_t> tokens, int64_t grid,
                          ReadOptions options) {
  const Points points(session, tokens, grid);
  int64_t done = restore(session, points);
  const int64_t parting = seen(points);
  options.chunk = grid;
  const auto total = static_cast<int64_t>(tokens.size());
  for (const int64_t point : {parting, points.count()}) {
    if (point <= done) continue;
    ReadOptions part = options;
    if (options.progress)
      part.progress = [&](int64_t read, int64_t) { return options.progress(done * grid + read, total); };
    session.read(tokens.subspan(static_cast<size_t>(done * grid), static_cast<size_t>((point - done) * grid)),
                 part);
    done = point;
    keep(session, points.names[static_cast<size_t>(point - 1)]);
  }
  mark(points);
  return session.position();
}

// The number of points restored.
int64_t PromptCache::restore(Session& session, const Points& points) const {
  for (int64_t i = points.count(); i > 0; --i) {
    const fs::path path = state_file(points.names[static_cast<size_t>(i - 1)]);
    if (!is_there(path)) continue;
    try {
      const SavedSession saved = read_session(path);
      if (saved.state.position != i * points.grid)
        fail(ErrorKind::bad_file, path.string(), ": of another text");
      session.restore(saved, path.string());
      touch(path);
      return i;
    } catch (const Error&) {
      session.reset();
      drop(path);
    }
  }
  return 0;
}

// The last point that an earlier prompt came by.
int64_t PromptCache::seen(const Points& points) const {
  for (int64_t i = points.count(); i > 0; --i) {
    if (is_there(seen_file(points.names[static_cast<size_t>(i - 1)]))) return i;
  }
  return 0;
}

void PromptCache::keep(const Session& session, const std::string& point) {
  if (session.bytes() > max_bytes_) return;
  try {
    make_room(session.bytes());
    write_session(state_file(point), session.save());
  } catch (const Error& error) {
    tell(error.what());
  }
}

void PromptCache::mark(const Points& points) {
  for (const std::string& point : points.names) {
    if (std::FILE* file = std::fopen(seen_file(point).c_str(), "a")) std::fclose(file);
  }
  const std::vector<Kept> all = files(directory_, ".seen");
  for (size_t i = 0; i + kMostSeen < all.size(); ++i) drop(all[i].path);
}

void PromptCache::make_room(uint64_t bytes) const {
  std::vector<Kept> all = files(directory_, ".session");
  uint64_t kept = bytes;
  for (const Kept& file : all) kept += file.bytes;
  for (const Kept& file : all) {
    if (kept <= max_bytes_) return;
    drop(file.path);
    kept -= file.bytes;
  }
}

void PromptCache::tell(const std::string& problem) {
  if (warn_) warn_(concat("the prompt cache keeps nothing: ", problem));
  warn_ = {};
}

}  // namespace bdh
