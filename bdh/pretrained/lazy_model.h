// LazyModel: a model directory that is loaded when it is first needed. Any number of threads may share one.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <utility>

#include "bdh/pretrained/model.h"

namespace bdh {

class LazyModel {
 public:
  explicit LazyModel(std::filesystem::path directory, LoadOptions options = {})
      : directory_(std::move(directory)), options_(std::move(options)) {}

  /// Loads at the first call, once for all threads; a failed load throws, and the next call tries again.
  std::shared_ptr<const Model> get() const {
    const std::lock_guard lock(mutex_);
    if (!model_) model_ = std::make_shared<const Model>(Model::from_pretrained(directory_, options_));
    return model_;
  }

  bool loaded() const {
    const std::lock_guard lock(mutex_);
    return model_ != nullptr;
  }

  /// Lets go of the model; whoever still holds it keeps it. The next get() loads it anew.
  void release() const {
    const std::lock_guard lock(mutex_);
    model_ = nullptr;
  }

 private:
  std::filesystem::path directory_;
  LoadOptions options_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Model> model_;
};

}  // namespace bdh
