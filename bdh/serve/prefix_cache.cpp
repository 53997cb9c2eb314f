// Which beginnings of prompts are kept.
#include "bdh/serve/prefix_cache.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/text/prefix_points.h"

namespace bdh {

namespace {

constexpr size_t kMostSeen = 65536;

}  // namespace

PrefixCache::PrefixCache(std::shared_ptr<StateStore> store, int64_t grid, uint64_t max_prompt_bytes)
    : store_(std::move(store)), grid_(grid), max_prompt_bytes_(max_prompt_bytes) {}

PrefixCache::Beginning PrefixCache::find(const Session& session, std::span<const int32_t> prompt) {
  const std::lock_guard lock(finding_);
  Beginning found;
  for (const std::string& point : prefix_points(session, prompt, grid_))
    found.points.push_back(concat(kPrefix, point));
  found.kept = std::ssize(found.points);
  while (found.kept > 0 && !(found.state = find_point(found.points[found.kept - 1], session))) --found.kept;
  return found;
}

void PrefixCache::begin(Session& session, const Beginning& beginning, Plan& plan) {
  const std::vector<std::string>& points = beginning.points;
  int64_t parting = std::ssize(points);
  while (parting > 0 && !seen_.contains(points[parting - 1])) --parting;
  for (const std::string& point : points) see(point);

  const uint64_t bytes = most_session_bytes(session.weights(), session.options().state_dtype);
  const auto plan_point = [&](int64_t point) {
    if (point <= beginning.kept || (plan.size() + 1) * bytes > max_prompt_bytes_) return;
    plan[point * grid_] = points[point - 1];
  };
  plan_point(std::ssize(points));
  plan_point(parting);
  for (int64_t back = 1; back < std::ssize(points); back *= 2) plan_point(std::ssize(points) - back);
  if (beginning.state) session.copy(*beginning.state->session);
}

/// A damaged file is a miss, and so is a state of the same model loaded twice.
std::optional<KeptState> PrefixCache::find_point(const std::string& name, const Session& like) const {
  try {
    std::optional<KeptState> state = store_->find(name, like.shared_weights(), like.options().state_dtype);
    const KeptState* found = state ? &*state : nullptr;
    if (found && &found->session->weights() == &like.weights()) return state;
    return {};
  } catch (const Error&) {
    store_->remove(name);
    return {};
  }
}

void PrefixCache::passed(const Plan& plan, const Session& session) {
  const auto point = plan.find(session.position());
  if (point == plan.end()) return;
  store_->keep_soon(point->second, {std::make_shared<const Session>(session.clone()), {}});
}

void PrefixCache::see(const std::string& point) {
  if (!seen_.insert(point).second) return;
  seen_order_.push_back(point);
  if (seen_order_.size() <= kMostSeen) return;
  seen_.erase(seen_order_.front());
  seen_order_.pop_front();
}

}  // namespace bdh
