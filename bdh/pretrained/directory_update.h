// DirectoryUpdate: how a model directory changes from one model to another. Everything new is written into a
// subdirectory first; then the old model's files go and the new ones take their place, config.json last.
//
// Killed before commit() it leaves the old model as it was. Killed inside it leaves a directory without
// config.json, which no reader takes for a model, and the whole new model in the subdirectory, so that the
// next update completes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace bdh {

class DirectoryUpdate {
 public:
  /// Makes the directory where there is none, locks it against other updates, completes an update that was
  /// killed inside commit(), removes what updates killed earlier left, and makes the subdirectory. Throws
  /// Error(invalid_argument) when `directory` is no directory, Error(io) when it cannot be written or another
  /// update is under way.
  explicit DirectoryUpdate(std::filesystem::path directory);
  /// Without commit(), removes all that is new.
  ~DirectoryUpdate();
  DirectoryUpdate(const DirectoryUpdate&) = delete;
  DirectoryUpdate& operator=(const DirectoryUpdate&) = delete;

  /// Where the new files are to be written, complete and synced.
  const std::filesystem::path& staging() const { return staging_; }

  /// Bytes that may still be written to the file system.
  uint64_t free_bytes() const;

  /// Replaces the old model's files (is_model_file) by the new ones; the user's other files stay.
  /// Throws Error(io); the old model then stands as it was, or the update can be completed as above.
  void commit();

 private:
  void release();

  std::filesystem::path directory_;
  std::filesystem::path staging_;
  int lock_ = -1;
  bool made_directory_ = false;
};

/// True where the files of two models may stand side by side, because a commit() is under way or was killed.
/// Means something only where there is no config.json.
bool is_being_replaced(const std::filesystem::path& directory);

/// Completes an update that was killed inside commit(), if one was. Throws Error(io).
void complete_interrupted_update(const std::filesystem::path& directory);

/// What a killed update left in a directory without config.json, in words to be put behind an error message;
/// empty when there is no trace of one.
std::string interrupted_update(const std::filesystem::path& directory);

}  // namespace bdh
