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

PrefixCache::Beginning PrefixCache::begin(Session& session, std::span<const int32_t> prompt) {
  Beginning beginning;
  for (const std::string& point : prefix_points(session, prompt, grid_))
    beginning.points.push_back(concat(kPrefix, point));
  std::shared_ptr<const Session> kept;
  {
    const std::lock_guard lock(finding_);
    beginning.read = std::ssize(beginning.points);
    while (beginning.read > 0 && !(kept = find(beginning.points[beginning.read - 1], session)))
      --beginning.read;
  }
  if (kept) session.copy(*kept);
  return beginning;
}

PrefixCache::Plan PrefixCache::plan(const Session& session, const Beginning& beginning) {
  const std::vector<std::string>& points = beginning.points;
  int64_t parting = std::ssize(points);
  while (parting > 0 && !seen_.contains(points[parting - 1])) --parting;
  for (const std::string& point : points) see(point);

  Plan plan;
  const uint64_t bytes = most_session_bytes(session.weights(), session.options().state_dtype);
  const auto plan_point = [&](int64_t point) {
    if (point <= beginning.read || (plan.size() + 1) * bytes > max_prompt_bytes_) return;
    plan[point * grid_] = points[point - 1];
  };
  plan_point(std::ssize(points));
  plan_point(parting);
  for (int64_t back = 1; back < std::ssize(points); back *= 2) plan_point(std::ssize(points) - back);
  return plan;
}

/// A damaged file is a miss, and so is a state of the same model loaded twice.
std::shared_ptr<const Session> PrefixCache::find(const std::string& name, const Session& like) const {
  try {
    const auto state = store_->find(name, like.shared_weights(), like.options().state_dtype);
    if (state && &state->session->weights() == &like.weights()) return state->session;
  } catch (const Error&) {
    store_->remove(name);
  }
  return nullptr;
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
