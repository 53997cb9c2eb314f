// A map of states and the order in which they were used.
#include "bdh/serve/state_store.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "bdh/base/error.h"

namespace bdh {

std::shared_ptr<const Session> session_of(const SavedSession& saved,
                                          const std::shared_ptr<const Weights>& weights, DType state_dtype,
                                          const std::string& source) {
  auto session = std::make_shared<Session>(
      weights, SessionOptions{.horizon = saved.horizon, .state_dtype = state_dtype});
  session->restore(saved, source);
  return session;
}

StateStore::StateStore(const StateStoreOptions& options) : max_bytes_(options.max_bytes) {
  if (!options.directory.empty()) directory_.emplace(options.directory, options.max_directory_bytes);
  if (directory_) writer_ = std::thread([this] { write_waiting(); });
}

StateStore::~StateStore() {
  if (!writer_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  writer_.join();
}

bool StateStore::write(const std::string& name, const KeptState& state) const {
  SavedSession saved = state.session->save();
  saved.text = state.text;
  return directory_->write(name, saved);
}

bool StateStore::keep(const std::string& name, KeptState state) {
  const bool is_written = directory_ && write(name, state);
  return put(name, std::move(state)) || is_written;
}

bool StateStore::keep_soon(const std::string& name, KeptState state) {
  if (!put(name, std::move(state))) return false;
  if (directory_) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(name);
    work_.notify_one();
  }
  return true;
}

void StateStore::write_waiting() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const std::string name = std::move(waiting_.front());
    waiting_.pop_front();
    const auto found = kept_.find(name);
    if (found == kept_.end()) continue;
    const KeptState state = found->second.state;
    lock.unlock();
    try {
      write(name, state);
    } catch (const Error&) {  // it is still in memory, or read again
    }
    lock.lock();
  }
}

bool StateStore::put(const std::string& name, KeptState state) {
  const size_t bytes = state.session->bytes();
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(name); found != kept_.end()) drop(found);
  if (bytes > max_bytes_) return false;
  while (bytes_ + bytes > max_bytes_) drop(kept_.find(order_.front()));
  kept_.emplace(name, Kept{std::move(state), bytes, order_.insert(order_.end(), name)});
  bytes_ += bytes;
  return true;
}

void StateStore::drop(std::unordered_map<std::string, Kept>::iterator entry) {
  bytes_ -= entry->second.bytes;
  order_.erase(entry->second.place);
  kept_.erase(entry);
}

std::optional<KeptState> StateStore::find(const std::string& name,
                                          const std::shared_ptr<const Weights>& weights, DType state_dtype) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = kept_.find(name); found != kept_.end()) {
      order_.splice(order_.end(), order_, found->second.place);
      return found->second.state;
    }
  }
  if (!directory_) return {};
  const std::optional<SavedSession> saved = directory_->read(name);
  if (!saved) return {};
  KeptState state{session_of(*saved, weights, state_dtype, name), saved->text};
  put(name, state);
  return state;
}

bool StateStore::contains(const std::string& name) const {
  {
    const std::lock_guard lock(mutex_);
    if (kept_.contains(name)) return true;
  }
  return directory_ && directory_->contains(name);
}

bool StateStore::remove(const std::string& name) {
  bool was_there = directory_ && directory_->remove(name);
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(name); found != kept_.end()) {
    drop(found);
    was_there = true;
  }
  return was_there;
}

void StateStore::keep_those_of(std::span<const Weights* const> weights) {
  const std::lock_guard lock(mutex_);
  for (auto entry = kept_.begin(); entry != kept_.end();) {
    const auto next = std::next(entry);
    const Weights* own = &entry->second.state.session->weights();
    if (std::find(weights.begin(), weights.end(), own) == weights.end()) drop(entry);
    entry = next;
  }
}

std::vector<StateStore::Entry> StateStore::list() const {
  std::vector<Entry> entries;
  std::unordered_set<std::string> in_memory;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, kept] : kept_) {
      in_memory.insert(name);
      entries.push_back({name, kept.bytes, kept.state.session->position()});
    }
  }
  if (!directory_) return entries;
  for (const SessionDirectory::Entry& file : directory_->list()) {
    if (!in_memory.contains(file.name)) entries.push_back({file.name, file.bytes});
  }
  return entries;
}

uint64_t StateStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace bdh
