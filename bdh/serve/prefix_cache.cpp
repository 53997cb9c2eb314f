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

void PrefixCache::begin(Session& session, std::span<const int32_t> prompt, Plan& plan) {
  const std::vector<std::string> names = prefix_points(session, prompt, grid_);
  const auto name_of = [&](int64_t point) { return concat(kPrefix, names[static_cast<size_t>(point - 1)]); };
  int64_t kept = std::ssize(names), parting = kept;
  std::optional<KeptState> state;
  while (kept > 0 && !(state = find(name_of(kept), session))) --kept;
  while (parting > 0 && !seen_.contains(name_of(parting))) --parting;
  for (int64_t point = 1; point <= std::ssize(names); ++point) see(name_of(point));

  const uint64_t bytes = most_session_bytes(session.weights(), session.options().state_dtype);
  const auto plan_point = [&](int64_t point) {
    if (point <= kept || (plan.size() + 1) * bytes > max_prompt_bytes_) return;
    plan[point * grid_] = name_of(point);
  };
  plan_point(std::ssize(names));
  plan_point(parting);
  for (int64_t back = 1; back < std::ssize(names); back *= 2) plan_point(std::ssize(names) - back);
  if (state) session.copy(*state->session);
}

/// A damaged file is a miss, and so is a state of the same model loaded twice.
std::optional<KeptState> PrefixCache::find(const std::string& name, const Session& like) const {
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
