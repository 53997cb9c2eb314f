// PrefixCache: states of the beginnings of prompts, so that a prompt which begins as an earlier one did is
// read from where they part.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "bdh/serve/state_store.h"

namespace bdh {

/// Points lie on a grid of positions, the ends of the chunks in which prompts are read anyway: a text has the
/// same bits with the cache as without. For one thread, but for `begin`; the store may be shared.
class PrefixCache {
 public:
  /// What a prompt leaves: names of states by the position at which they are kept.
  using Plan = std::map<int64_t, std::string>;

  /// The states of one prompt take at most max_prompt_bytes.
  PrefixCache(std::shared_ptr<StateStore> store, int64_t grid, uint64_t max_prompt_bytes);

  /// The points of a prompt, by name, and how many of them have been read.
  struct Beginning {
    std::vector<std::string> points;
    int64_t read = 0;
  };
  /// The session, which has read nothing, becomes one that has read the longest beginning of the prompt that
  /// is kept, if there is one. Any thread may call. Files are read for one prompt at a time, so that those
  /// which begin alike find in memory what the first one has read.
  Beginning begin(Session& session, std::span<const int32_t> prompt);
  /// For the rest of the prompt: where it parts from earlier ones, and points of which the last is near its
  /// end and each before it twice as far away, so that a prompt which parts from it near its end reads little
  /// again.
  Plan plan(const Session& session, const Beginning& beginning);
  /// Keeps the session, where the plan says so.
  void passed(const Plan& plan, const Session& session);

  /// What its names in the store begin with.
  static constexpr std::string_view kPrefix = "prefix-";

 private:
  std::shared_ptr<const Session> find(const std::string& name, const Session& like) const;
  void see(const std::string& point);

  std::shared_ptr<StateStore> store_;
  int64_t grid_;
  uint64_t max_prompt_bytes_;
  std::mutex finding_;
  std::unordered_set<std::string> seen_;  // points that prompts came by
  std::deque<std::string> seen_order_;
};

}  // namespace bdh
