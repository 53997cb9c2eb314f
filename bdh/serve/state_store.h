// StateStore: states of sequences, kept by name, to be gone on from any number of times.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "bdh/model/session.h"
#include "bdh/model/session_directory.h"

namespace bdh {

/// What is kept never changes: who goes on from it copies the session.
struct KeptState {
  std::shared_ptr<const Session> session;
  Continuation text;
};

struct StateStoreOptions {
  uint64_t max_bytes = uint64_t{1} << 30;  // of sessions in memory
  std::filesystem::path directory = {};    // where they are kept too; empty: in memory alone
  uint64_t max_directory_bytes = uint64_t{16} << 30;
};

/// At most so many bytes in memory and on disk: those used longest ago go first. Any thread may call, and any
/// number of processes may share the directory: what one keeps, replaces or removes there is so for all.
class StateStore {
 public:
  /// Throws Error(io) where there can be no such directory.
  explicit StateStore(const StateStoreOptions& options);
  /// Writes what is still to be written.
  ~StateStore();
  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  /// In the place of what has that name, in a file too where there is a directory. False: it is larger than
  /// all that may be kept. Throws Error(io).
  bool keep(const std::string& name, KeptState state);
  /// The same without waiting for the file, nor saying what became of it.
  bool keep_soon(const std::string& name, KeptState state);
  /// From memory, or from the directory as a session of those weights. Throws Error(bad_file) for a file of
  /// other weights, or a damaged one.
  std::optional<KeptState> find(const std::string& name, const std::shared_ptr<const Weights>& weights,
                                DType state_dtype = DType::f32);
  /// In memory or in the directory.
  bool contains(const std::string& name) const;
  /// Whether there was one.
  bool remove(const std::string& name);
  /// Forgets what is in memory of other weights.
  void keep_those_of(std::span<const Weights* const> weights);
  uint64_t max_bytes() const { return max_bytes_; }

  struct Entry {
    std::string name;
    uint64_t bytes = 0;
    std::optional<int64_t> position = {};  // where it is in memory
  };
  /// In no order.
  std::vector<Entry> list() const;
  uint64_t bytes() const;

 private:
  using Order = std::list<std::string>;  // used longest ago first
  struct Kept {
    KeptState state;
    size_t bytes;
    std::optional<FileIdentity> file;  // that holds the same; none: it is in memory alone
    Order::iterator place;
  };

  std::optional<FileIdentity> write(const std::string& name, const KeptState& state) const;
  void write_waiting();
  bool put(const std::string& name, KeptState state, std::optional<FileIdentity> file);
  std::optional<KeptState> find_here(const std::string& name);
  std::optional<KeptState> find_there(const std::string& name, const std::shared_ptr<const Weights>& weights,
                                      DType state_dtype);
  void drop(std::unordered_map<std::string, Kept>::iterator entry);

  uint64_t max_bytes_;
  std::optional<SessionDirectory> directory_;
  mutable std::mutex mutex_;  // of what follows
  std::unordered_map<std::string, Kept> kept_;
  Order order_;
  uint64_t bytes_ = 0;
  std::deque<std::string> waiting_;  // to be written, if they are still kept then
  bool stopping_ = false;
  std::condition_variable work_;
  std::thread writer_;  // where there is a directory
};

/// A session of those weights that has read what was saved.
std::shared_ptr<const Session> session_of(const SavedSession& saved,
                                          const std::shared_ptr<const Weights>& weights, DType state_dtype,
                                          const std::string& source);

}  // namespace bdh
