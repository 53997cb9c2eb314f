// A map of states and the order in which they were used.
#include "bdh/serve/state_store.h"

#include <algorithm>
#include <iterator>
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

std::optional<FileIdentity> StateStore::write(const std::string& name, const KeptState& state) const {
  SavedSession saved = state.session->save();
  saved.text = state.text;
  return directory_->write(name, saved);
}

bool StateStore::keep(const std::string& name, KeptState state) {
  const auto file = directory_ ? write(name, state) : std::nullopt;
  return put(name, std::move(state), file) || file;
}

bool StateStore::keep_soon(const std::string& name, KeptState state) {
  if (!put(name, std::move(state), {})) return false;
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
    std::optional<FileIdentity> file;
    lock.unlock();
    try {
      file = write(name, state);
    } catch (const Error&) {  // it is still in memory, or read again
    }
    lock.lock();
    const auto written = kept_.find(name);
    if (written != kept_.end() && written->second.state.session == state.session) written->second.file = file;
  }
}

bool StateStore::put(const std::string& name, KeptState state, std::optional<FileIdentity> file) {
  const size_t bytes = state.session->bytes();
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(name); found != kept_.end()) drop(found);
  if (bytes > max_bytes_) return false;
  while (bytes_ + bytes > max_bytes_) drop(kept_.find(order_.front()));
  kept_.emplace(name, Kept{std::move(state), bytes, file, order_.insert(order_.end(), name)});
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
  if (std::optional<KeptState> state = find_here(name)) return state;
  return directory_ ? find_there(name, weights, state_dtype) : std::nullopt;
}

/// In memory, unless its file is another by now, or gone: then it is forgotten.
std::optional<KeptState> StateStore::find_here(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.find(name);
  if (found == kept_.end()) return {};
  if (found->second.file) {
    if (directory_->identity(name) != *found->second.file) {
      drop(found);
      return {};
    }
    directory_->touch(name);
  }
  order_.splice(order_.end(), order_, found->second.place);
  return found->second.state;
}

/// In the directory. A file that was replaced while it was read is not kept in memory.
std::optional<KeptState> StateStore::find_there(const std::string& name,
                                                const std::shared_ptr<const Weights>& weights,
                                                DType state_dtype) {
  const FileIdentity before = directory_->identity(name);
  const std::optional<SavedSession> saved = directory_->read(name);
  if (!saved) return {};
  KeptState state{session_of(*saved, weights, state_dtype, name), saved->text};
  if (directory_->identity(name) == before) put(name, state, before);
  return state;
}

bool StateStore::contains(const std::string& name) const {
  {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(name);
    if (found != kept_.end() && !found->second.file) return true;
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
  const auto files = directory_ ? directory_->list() : std::vector<SessionDirectory::Entry>();
  std::vector<Entry> entries;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, kept] : kept_) {
    if (!kept.file) entries.push_back({name, kept.bytes, kept.state.session->position()});
  }
  for (const SessionDirectory::Entry& file : files) {
    const auto found = kept_.find(file.name);
    if (found == kept_.end() || (found->second.file && *found->second.file != file.identity)) {
      entries.push_back({file.name, file.identity.bytes});
    } else if (found->second.file) {
      entries.push_back({file.name, found->second.bytes, found->second.state.session->position()});
    }
  }
  return entries;
}

uint64_t StateStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace bdh
