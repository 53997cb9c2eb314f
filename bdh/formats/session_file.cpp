// A session's state on disk: safetensors with the tensor `state` (L, H, N, D) float32 and, in its metadata,
// the position.
#include "bdh/formats/session_file.h"

#include <charconv>
#include <string>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"

namespace bdh {

namespace {

constexpr const char* kStateTensor = "state";
constexpr const char* kPositionKey = "position";

int64_t position_in(const SafetensorsFile& file) {
  const auto found = file.metadata().find(kPositionKey);
  int64_t position = -1;
  if (found != file.metadata().end()) {
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), position);
    if (error != std::errc() || end != text.data() + text.size()) position = -1;
  }
  if (position < 0)
    fail(ErrorKind::bad_file, file.path().string(), ": no saved session: its metadata lacks a position");
  return position;
}

}  // namespace

void write_session(const std::filesystem::path& path, const SavedState& saved) {
  write_safetensors(path, {{kStateTensor, saved.s}}, {{kPositionKey, std::to_string(saved.position)}});
}

SavedState read_session(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const int64_t position = position_in(file);
  return {file.tensor(kStateTensor), position};
}

}  // namespace bdh
