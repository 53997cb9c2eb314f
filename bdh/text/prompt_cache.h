// PromptCache: what sessions remembered of prompts, kept in a directory, so that a prompt which begins as an
// earlier one did is read from where they part.
//
// Points lie on a fixed grid of positions, the ends of the chunks in which prompts are read anyway: a text is
// the same with the cache as without. Any number of processes may share the directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bdh/model/session.h"
#include "bdh/model/session_directory.h"

namespace bdh {

class PromptCache {
 public:
  /// Makes the directory. Keeps at most max_bytes of sessions there, those used last. What goes wrong with a
  /// file never stops a text: it is a miss, and what cannot be written is told to `warn`, once. Throws
  /// Error(io) where there can be no such directory.
  PromptCache(const std::filesystem::path& directory, uint64_t max_bytes,
              std::function<void(const std::string&)> warn = {});
  virtual ~PromptCache() = default;

  /// Reads all of `tokens` but a last part, at least one token, into a session that has read nothing: what is
  /// kept is restored, the rest read in chunks of `grid` tokens, and kept. Returns how many tokens the
  /// session has then read. Virtual, so that a program that makes no cache does not contain it.
  virtual int64_t read(Session& session, std::span<const int32_t> tokens, int64_t grid, ReadOptions options);

 private:
  struct Points;

  std::filesystem::path seen_file(const std::string& point) const;
  int64_t restore(Session& session, const Points& points) const;
  int64_t seen(const Points& points) const;
  void keep(const Session& session, const std::string& point);
  void mark(const Points& points);
  void tell(const std::string& problem);

  SessionDirectory states_;
  std::function<void(const std::string&)> warn_;
};

}  // namespace bdh
