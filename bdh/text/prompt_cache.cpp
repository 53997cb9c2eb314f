// The files of the cache: POINT.session holds what a session remembered there, POINT.seen that a prompt came
// by.
#include "bdh/text/prompt_cache.h"

#include <cstdio>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/text/prefix_points.h"

namespace bdh {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMostSeen = 65536;

void drop(const fs::path& path) {
  std::error_code ignored;
  fs::remove(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

struct PromptCache::Points {
  int64_t grid;
  std::vector<std::string> names;  // prefix_points

  int64_t count() const { return static_cast<int64_t>(names.size()); }
};

PromptCache::PromptCache(const fs::path& directory, uint64_t max_bytes,
                         std::function<void(const std::string&)> warn)
    : states_(directory, max_bytes), warn_(std::move(warn)) {}

fs::path PromptCache::seen_file(const std::string& point) const { return states_.path() / (point + ".seen"); }

int64_t PromptCache::read(Session& session, std::span<const int32_t> tokens, int64_t grid,
                          ReadOptions options) {
  const Points points{grid, prefix_points(session, tokens, grid)};
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
    const std::string& point = points.names[static_cast<size_t>(i - 1)];
    try {
      const std::optional<SavedSession> saved = states_.read(point);
      if (!saved) continue;
      const std::string source = states_.file(point).string();
      if (saved->state.position != i * points.grid) fail(ErrorKind::bad_file, source, ": of another text");
      session.restore(*saved, source);
      return i;
    } catch (const Error&) {
      session.reset();
      states_.remove(point);
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
  try {
    states_.write(point, session.save());
  } catch (const Error& error) {
    tell(error.what());
  }
}

void PromptCache::mark(const Points& points) {
  for (const std::string& point : points.names) {
    if (std::FILE* file = std::fopen(seen_file(point).c_str(), "a")) std::fclose(file);
  }
  const std::vector<UsedFile> all = files_by_use(states_.path(), ".seen");
  for (size_t i = 0; i + kMostSeen < all.size(); ++i) drop(all[i].path);
}

void PromptCache::tell(const std::string& problem) {
  if (warn_) warn_(concat("the prompt cache keeps nothing: ", problem));
  warn_ = {};
}

}  // namespace bdh
