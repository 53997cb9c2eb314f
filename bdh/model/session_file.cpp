// Sessions as safetensors.
#include "bdh/model/session_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/horizon.h"

namespace bdh {
namespace {

constexpr const char* kPosition = "position";
constexpr const char* kBase = "base";
constexpr const char* kFirst = "first";
constexpr const char* kHeld = "held";
constexpr const char* kFlushed =
    "flushed";  // the same without S, which versions before token form do not know
constexpr const char* kModel = "model";
constexpr const char* kDtype = "dtype";
constexpr const char* kHorizon = "horizon";
constexpr const char* kUnread = "unread";
constexpr const char* kSeed = "seed";
constexpr const char* kStep = "step";

/// The tensors of a state, under their names.
template <class State>
auto named_tensors(State& state) {
  return std::array{std::pair{"state", &state.s},
                    std::pair{kHeld, &state.held},
                    std::pair{"begin", &state.tokens.begin},
                    std::pair{"neuron", &state.tokens.neuron},
                    std::pair{"r", &state.tokens.r},
                    std::pair{"x", &state.tokens.x}};
}

TensorMap tensors_of(const SavedSession& saved) {
  TensorMap tensors;
  for (const auto& [name, tensor] : named_tensors(saved.state)) {
    if (tensor->data && tensor->numel() > 0) tensors[name] = *tensor;
  }
  if (!saved.state.s.data && tensors.contains(kHeld)) {
    tensors[kFlushed] = tensors[kHeld];
    tensors.erase(kHeld);
  }
  if (!saved.text.unread.empty()) {
    std::byte* data = nullptr;
    Tensor unread = make_tensor(DType::i32, {static_cast<int64_t>(saved.text.unread.size())}, &data);
    std::memcpy(data, saved.text.unread.data(), saved.text.unread.size() * sizeof(int32_t));
    tensors[kUnread] = unread;
  }
  return tensors;
}

Metadata metadata_of(const SavedSession& saved) {
  Metadata metadata{{kPosition, std::to_string(saved.state.position)},
                    {kBase, std::to_string(saved.state.base)},
                    {kHorizon, horizon_to_json(saved.horizon).dump()}};
  if (saved.text.seed) {
    metadata[kSeed] = std::to_string(*saved.text.seed);
    metadata[kStep] = std::to_string(saved.text.step);
  }
  if (saved.state.first >= 0) metadata[kFirst] = std::to_string(saved.state.first);
  if (!saved.model.empty()) metadata[kModel] = saved.model;
  if (saved.dtype) metadata[kDtype] = name_of(*saved.dtype);
  return metadata;
}

[[noreturn]] void fail_reading(const SafetensorsFile& file, const char* key) {
  fail(ErrorKind::bad_file, file.path().string(), ": no saved session: its metadata lacks a ", key);
}

const std::string* find(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? nullptr : &found->second;
}

template <class Number>
Number number_in(const SafetensorsFile& file, const char* key, const std::string& text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) fail_reading(file, key);
  return number;
}

DType dtype_in(const SafetensorsFile& file, const std::string& text) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i8, DType::u8}) {
    if (text == name_of(dtype)) return dtype;
  }
  fail_reading(file, kDtype);
}

std::vector<int32_t> unread_in(const Tensor& tensor, const SafetensorsFile& file) {
  if (tensor.dtype != DType::i32 || tensor.shape.size() != 1) fail_reading(file, kUnread);
  std::vector<int32_t> tokens(static_cast<size_t>(tensor.numel()));
  std::memcpy(tokens.data(), tensor.data, tokens.size() * sizeof(int32_t));
  return tokens;
}

SavedSession session_in(const SafetensorsFile& file) {
  SavedSession saved;
  const std::string* position = find(file, kPosition);
  if (!position) fail_reading(file, kPosition);
  saved.state.position = saved.state.base = number_in<int64_t>(file, kPosition, *position);
  if (const std::string* base = find(file, kBase)) saved.state.base = number_in<int64_t>(file, kBase, *base);
  if (const std::string* first = find(file, kFirst))
    saved.state.first = number_in<int64_t>(file, kFirst, *first);
  if (const std::string* model = find(file, kModel)) saved.model = *model;
  if (const std::string* dtype = find(file, kDtype)) saved.dtype = dtype_in(file, *dtype);
  if (const std::string* seed = find(file, kSeed)) saved.text.seed = number_in<uint64_t>(file, kSeed, *seed);
  if (const std::string* step = find(file, kStep)) saved.text.step = number_in<uint64_t>(file, kStep, *step);
  if (const std::string* horizon = find(file, kHorizon))
    saved.horizon = horizon_from_json(Json::parse(*horizon, file.path().string() + ": horizon"));
  auto places = named_tensors(saved.state);
  for (const TensorInfo& info : file.tensors()) {
    const auto place =
        std::find_if(places.begin(), places.end(), [&](const auto& p) { return info.name == p.first; });
    if (place != places.end()) *place->second = file.tensor(info.name);
    if (info.name == kFlushed) saved.state.held = file.tensor(info.name);
    if (info.name == kUnread) saved.text.unread = unread_in(file.tensor(info.name), file);
  }
  return saved;
}

}  // namespace

FileIdentity write_session(const std::filesystem::path& path, const SavedSession& saved) {
  return write_safetensors(path, tensors_of(saved), metadata_of(saved));
}

std::vector<std::byte> session_bytes(const SavedSession& saved) {
  return safetensors_bytes(tensors_of(saved), metadata_of(saved));
}

SavedSession read_session(const std::filesystem::path& path) {
  return session_in(SafetensorsFile::open(path));
}

SavedSession read_session(std::span<const std::byte> bytes, const std::string& name) {
  const auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  return session_in(SafetensorsFile::of_bytes(*copy, copy, name));
}

}  // namespace bdh
