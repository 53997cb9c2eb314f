// ServedModels: the models that a server has, each with its scheduler, and how they are loaded anew.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bdh/pretrained/model.h"
#include "bdh/serve/scheduler.h"
#include "bdh/serve/state_store.h"
#include "tools/command.h"

namespace bdh::tools {

struct ServedModelsOptions {
  std::vector<std::string> models;  // [ID=]DIR, or NAME[:VERSION] of the registry
  std::string registry;
  CommonOptions common;  // device, threads, dtypes; adapters [ID=]DIR[:SCALE] of the one model
  uint64_t batch = 16;   // texts at once, of each model
  uint64_t queue = 256;
  uint64_t state_bytes = uint64_t{4} << 30;  // of sessions: those that run, and those that are kept
  std::string state_directory;
  uint64_t state_directory_bytes = uint64_t{16} << 30;
};

struct ServedModel {
  std::string id, parent;  // parent: of an adapter, the model that it is for
  std::string path;
  std::string fingerprint;  // of weights and config
  std::shared_ptr<const Model> model;
  std::shared_ptr<Scheduler> scheduler;
  bool shares_scheduler = false;  // its parent's: their texts are read together
  int64_t created = 0;            // seconds since 1970
};
using ServedModelPointer = std::shared_ptr<const ServedModel>;

/// Any thread may call.
class ServedModels {
 public:
  /// Loads them all. Throws Error naming what cannot be loaded, or how many bytes of states it takes at
  /// least.
  explicit ServedModels(ServedModelsOptions options);

  /// With one model served, that one, whatever the name. Null where there is none.
  ServedModelPointer find(const std::string& id) const;
  std::vector<ServedModelPointer> list() const;
  StateStore& states() const { return *states_; }
  DType state_dtype() const { return state_dtype_; }
  size_t batch() const { return batch_; }
  /// The most bytes that a session of any of them may have.
  size_t most_session() const;

  /// Loads what has changed since, the registry's newest version too. Requests that have begun end on what
  /// they began with. Throws as the constructor, and then serves what it served.
  void reload();
  /// Returns when all texts have ended; takes no more.
  void drain();

 private:
  using List = std::vector<ServedModelPointer>;

  List load() const;
  ServedModel load_one(const std::string& given, const LoadOptions& load) const;
  List with_adapters(ServedModel base) const;
  void share_memory(const List& models);
  void begin(const List& models);
  void begin_scheduler(ServedModel& served, const ServedModel* base) const;
  static const ServedModel* base_in(const List& models, const ServedModel& adapted);
  uint64_t bytes_of_each(const List& models) const;

  ServedModelsOptions options_;
  DType state_dtype_;
  size_t batch_ = 0;
  std::shared_ptr<StateStore> states_;
  mutable std::mutex mutex_;  // of models_
  List models_;
};

}  // namespace bdh::tools
