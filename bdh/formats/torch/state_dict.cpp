// From a checkpoint's values to its tensors: which of them are the state_dict, and whether each tensor is
// what it says.
#include "bdh/formats/torch/state_dict.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/pickle_json.h"
#include "bdh/formats/torch/torch_types.h"

namespace bdh {
namespace {

using Kind = PickleValue::Kind;
using Items = std::vector<PickleValue>;

// What repositories save a state_dict under.
constexpr std::array<std::string_view, 7> kStateDictKeys = {
    "model_state_dict", "state_dict", "model", "model_state", "bdh_state_dict", "module", "net"};
// Where a module keeps what belongs to its state_dict.
constexpr std::string_view kParameters = "_parameters";
constexpr std::string_view kBuffers = "_buffers";
constexpr std::string_view kModules = "_modules";
constexpr std::array kModuleParts = {kParameters, kBuffers, kModules};
// What a module calls the one that it wraps.
constexpr std::array<std::string_view, 5> kWrappedModules = {"module", "_orig_mod", "model", "network",
                                                             "backbone"};
constexpr int kMaxModules = 32;  // one in another
constexpr int kMaxWrappers = 8;
constexpr int kMostLooked = 3;                         // wrappers in another where several lie side by side
constexpr std::string_view kPrivateTorch = "torch._";  // what rebuilds tensors of any kind
constexpr size_t kMaxRank = 64;

// Places in the arguments of _rebuild_tensor, _v2 and _v3.
constexpr size_t kStorage = 0;
constexpr size_t kOffset = 1;
constexpr size_t kShape = 2;
constexpr size_t kStrides = 3;
constexpr size_t kDTypeOrMetadata = 6;

// Places in what names a storage: ("storage", type, key, location, elements).
constexpr size_t kStorageType = 1;
constexpr size_t kStorageKey = 2;
constexpr size_t kStorageElements = 4;
constexpr size_t kStorageParts = 5;

bool is_module(const Pickle& pickle, const PickleValue& value) {
  return value.kind == Kind::object && pickle.find(value, kParameters) && pickle.find(value, kModules);
}

bool is_tensor(const Pickle& pickle, const PickleValue& value) {
  if (value.kind != Kind::object) return value.kind == Kind::tensor;
  const PickleValue& callee = pickle.part(value, PickleObject::callee);
  return callee.kind == Kind::global && callee.text().starts_with(kPrivateTorch);
}

bool holds_tensors(const Pickle& pickle, const PickleValue& value) {
  const Items* items = pickle.members(value);
  return items != nullptr && std::any_of(items->begin(), items->end(),
                                         [&](const PickleValue& item) { return is_tensor(pickle, item); });
}

// `depth` wrappers lie around it.
bool leads_to_tensors(const Pickle& pickle, const PickleValue& value, int depth) {
  if (holds_tensors(pickle, value) || is_module(pickle, value)) return true;
  return depth < kMostLooked &&
         std::any_of(kStateDictKeys.begin(), kStateDictKeys.end(), [&](std::string_view key) {
           const PickleValue* inner = pickle.find(value, key);
           return inner != nullptr && leads_to_tensors(pickle, *inner, depth + 1);
         });
}

// A config may lie under such a key too: the first that has tensors, or else the first.
const PickleValue* wrapped_state_dict(const Pickle& pickle, const PickleValue& dict) {
  const PickleValue* first = nullptr;
  for (const std::string_view key : kStateDictKeys) {
    const PickleValue* value = pickle.find(dict, key);
    if (value == nullptr || pickle.members(*value) == nullptr) continue;
    if (leads_to_tensors(pickle, *value, 0)) return value;
    if (first == nullptr) first = value;
  }
  return holds_tensors(pickle, dict) ? nullptr : first;
}

const PickleValue* wrapped_module(const Pickle& pickle, const PickleValue& module) {
  const PickleValue* modules = pickle.find(module, kModules);
  for (const std::string_view name : kWrappedModules) {
    const PickleValue* inner = modules == nullptr ? nullptr : pickle.find(*modules, name);
    if (inner != nullptr && is_module(pickle, *inner)) return inner;
  }
  return nullptr;
}

// Makes one tensor. Every error names the file and the tensor.
class TensorReader {
 public:
  TensorReader(const Pickle& pickle, const TorchStorages& storages, const std::string& source,
               std::string_view name)
      : pickle_(pickle), storages_(storages), source_(source), name_(name) {}

  Tensor read(const PickleValue& value) const {
    const Items& arguments = pickle_.items(value);
    const Items& storage = pickle_.items(arguments[kStorage]);
    check_storage(storage);
    Tensor tensor;
    tensor.dtype = dtype(arguments, storage);
    tensor.shape = numbers(arguments[kShape], "shape");
    tensor.strides = numbers(arguments[kStrides], "strides");
    if (tensor.strides.size() != tensor.shape.size())
      bad("its strides do not fit its shape ", to_string(tensor.shape));
    const auto offset = static_cast<uint64_t>(number(arguments[kOffset], "storage offset"));
    attach(tensor, offset, storage);
    normalise_strides(tensor);
    return tensor;
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, ": tensor ", printable(name_), ": ", reason...,
         "; the file is damaged, get it again from its source");
  }

  template <class... Parts>
  [[noreturn]] void unsupported(const Parts&... reason) const {
    fail(ErrorKind::unsupported, source_, ": tensor ", printable(name_), " ", reason...);
  }

  void check_storage(const Items& parts) const {
    const bool named = parts.size() >= kStorageParts && parts[0].kind == Kind::string &&
                       parts[0].text() == "storage" && parts[kStorageType].kind == Kind::global &&
                       parts[kStorageKey].kind == Kind::string;
    if (!named) bad("its storage is not named as torch.save names storages");
  }

  DType dtype(const Items& arguments, const Items& storage) const {
    std::string_view type = storage[kStorageType].text();
    if (arguments.size() > kDTypeOrMetadata) {
      const PickleValue& last = arguments[kDTypeOrMetadata];
      if (last.kind == Kind::global) type = last.text();
      if (last.kind == Kind::dict && !pickle_.items(last).empty())
        unsupported("is a conjugate or negated view; save a copy of it: tensor.resolve_conj().resolve_neg()");
    }
    if (const std::optional<DType> known = dtype_of_torch_type(type)) return *known;
    unsupported("has the type ", type,
                ", which bdh does not compute with; convert it to float32 before saving");
  }

  int64_t number(const PickleValue& value, std::string_view what) const {
    if (value.kind == Kind::real)
      bad("its ", what, " has a number that does not fit 64 bits, or is not whole");
    if (value.kind != Kind::integer) bad("its ", what, " has a value that is no whole number");
    if (value.integer < 0) bad("its ", what, " has a negative number, ", value.integer);
    return value.integer;
  }

  Shape numbers(const PickleValue& value, std::string_view what) const {
    if (value.kind != Kind::tuple && value.kind != Kind::list) bad("its ", what, " is no tuple");
    const Items& items = pickle_.items(value);
    if (items.size() > kMaxRank) bad("has more than ", kMaxRank, " dimensions");
    Shape shape;
    for (const PickleValue& item : items) shape.push_back(number(item, what));
    return shape;
  }

  uint64_t bytes_of(const Tensor& tensor) const {
    try {
      return tensor.bytes();
    } catch (const Error& error) {
      bad(error.what());
    }
  }

  // Points the tensor into its storage, if it lies inside.
  void attach(Tensor& tensor, uint64_t offset, const Items& parts) const {
    const TorchStorage storage = storages_(parts[kStorageKey].text());
    const uint64_t element = size_of_torch_storage(parts[kStorageType].text()).value_or(1);
    const auto elements = static_cast<uint64_t>(number(parts[kStorageElements], "storage's size"));
    if (elements > storage.bytes.size() / element) {
      bad("its storage ", printable(parts[kStorageKey].text()), " claims ", elements, " elements of ",
          element, " bytes, but has ", storage.bytes.size(), " bytes");
    }
    const uint64_t size = size_of(tensor.dtype);
    const uint64_t available = elements * element / size;
    if (bytes_of(tensor) > 0 && !inside(tensor, offset, available)) {
      bad("its shape ", to_string(tensor.shape), " with strides ", to_string(tensor.strides),
          " from element ", offset, " reaches past the ", available, " elements of its storage");
    }
    tensor.data = storage.bytes.data() + (tensor.numel() == 0 ? 0 : offset * size);
    tensor.owner = storage.owner;
    if (storage.mapped) tensor.give_back = release_pages;
    if (storage.big_endian && size > 1) swap_bytes(tensor);
  }

  // Elements come from a machine of the other byte order.
  static void swap_bytes(Tensor& tensor) {
    const size_t size = size_of(tensor.dtype);
    std::byte* bytes = nullptr;
    Tensor swapped = make_tensor(tensor.dtype, tensor.shape, &bytes);
    copy_row_major(tensor, 0, tensor.numel(), bytes);
    for (size_t at = 0; at < swapped.bytes(); at += size) std::reverse(bytes + at, bytes + at + size);
    tensor = std::move(swapped);
  }

  // No dimension is zero.
  static bool inside(const Tensor& tensor, uint64_t offset, uint64_t available) {
    if (offset >= available) return false;
    uint64_t left = available - 1 - offset;
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      const auto steps = static_cast<uint64_t>(tensor.shape[d] - 1);
      const auto stride = static_cast<uint64_t>(tensor.strides[d]);
      if (steps > 0 && stride > left / steps) return false;
      left -= steps * stride;
    }
    return true;
  }

  // Strides that no element is reached by may be any number.
  static void normalise_strides(Tensor& tensor) {
    const Shape contiguous = contiguous_strides(tensor.shape);
    const bool empty = tensor.numel() == 0;
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      if (empty || tensor.shape[d] == 1) tensor.strides[d] = contiguous[d];
    }
  }

  const Pickle& pickle_;
  const TorchStorages& storages_;
  const std::string& source_;
  std::string_view name_;
};

// Takes the entries of a state_dict, or of a module and those in it.
class StateDictReader {
 public:
  StateDictReader(const Pickle& pickle, const TorchStorages& storages, uint64_t largest,
                  const std::string& source, TorchFile& file)
      : pickle_(pickle), storages_(storages), source_(source), left_(largest), file_(file) {}

  void take_entries(const PickleValue& dict, const std::string& prefix) {
    const Items* items = pickle_.members(dict);
    for (size_t i = 0; items != nullptr && i + 1 < items->size(); i += 2) {
      const PickleValue& key = (*items)[i];
      if (key.kind == Kind::string) take_entry(prefix, key.text(), (*items)[i + 1]);
    }
  }

  // `depth` modules lie around it.
  void take_module(const PickleValue& module, const std::string& prefix, int depth) {
    for (const std::string_view part : {kParameters, kBuffers}) {
      if (const PickleValue* entries = pickle_.find(module, part)) take_entries(*entries, prefix);
    }
    const PickleValue* modules = pickle_.find(module, kModules);
    const Items* inner = modules == nullptr ? nullptr : pickle_.members(*modules);
    for (size_t i = 0; inner != nullptr && i + 1 < inner->size(); i += 2) {
      const PickleValue& key = (*inner)[i];
      if (key.kind != Kind::string || depth >= kMaxModules || modules_++ > kMostModules) continue;
      take_module((*inner)[i + 1], concat(prefix, key.text(), "."), depth + 1);
    }
  }

  /// Every tensor in what a dictionary or module holds, but under the keys in `without`. Those that cannot be
  /// read are left out.
  void take_beside(const PickleValue& holder, std::span<const std::string_view> without) {
    const Items* items = pickle_.members(holder);
    for (size_t i = 0; items != nullptr && i + 1 < items->size(); i += 2) {
      const std::string name = key_of((*items)[i]);
      const bool wanted = !name.empty() && std::find(without.begin(), without.end(), name) == without.end();
      if (wanted) take_inside((*items)[i + 1], name, 0);
    }
  }

 private:
  static constexpr size_t kMostModules = 10'000;
  static constexpr int kDeepest = 8;  // containers around a tensor beside the state_dict

  /// "" for a key that is neither text nor a whole number.
  static std::string key_of(const PickleValue& key) {
    if (key.kind == Kind::integer) return std::to_string(key.integer);
    return key.kind == Kind::string && is_utf8(key.text()) ? std::string(key.text()) : "";
  }

  void take_inside(const PickleValue& value, const std::string& path, int depth) {
    if (value.kind == Kind::tensor) return take_quietly(value, path);
    // A value that is held many times counts each time: no honest pickle has more than it has bytes.
    if (depth > kDeepest || ++looked_at_ > pickle_.size) return;
    if (value.kind == Kind::list || value.kind == Kind::tuple) {
      const Items& items = pickle_.items(value);
      for (size_t i = 0; i < items.size(); ++i) take_inside(items[i], concat(path, ".", i), depth + 1);
      return;
    }
    const Items* items = pickle_.members(value);
    for (size_t i = 0; items != nullptr && i + 1 < items->size(); i += 2) {
      const std::string name = key_of((*items)[i]);
      if (!name.empty()) take_inside((*items)[i + 1], concat(path, ".", name), depth + 1);
    }
  }

  void take_quietly(const PickleValue& value, const std::string& path) {
    if (++looked_at_ > pickle_.size) return;
    try {
      file_.beside.insert_or_assign(path, read_tensor(path, value));
    } catch (const Error&) {
      return;
    }
  }

  void take_entry(const std::string& prefix, std::string_view key, const PickleValue& value) {
    const bool worth_telling = value.kind == Kind::tensor || value.kind == Kind::object;
    if (!worth_telling) return;
    if (!is_utf8(key)) return;  // nothing that a model has
    const std::string name = prefix + std::string(key);
    if (file_.tensors.contains(name) || file_.unreadable.contains(name)) {
      fail(ErrorKind::bad_file, source_, ": tensor ", printable(name),
           " stands twice; the file is damaged, get it again from its source");
    }
    try {
      file_.tensors.emplace(name, read_tensor(name, value));
      file_.order.push_back(name);
    } catch (const Error& error) {
      file_.unreadable.emplace(name, error);
    }
  }

  Tensor read_tensor(const std::string& name, const PickleValue& value) {
    if (value.kind == Kind::object) {
      fail(ErrorKind::unsupported, source_, ": tensor ", printable(name), " is ", pickle_.describe(value),
           ", not a tensor of numbers in memory; save a dense float32 copy of it");
    }
    Tensor tensor = TensorReader(pickle_, storages_, source_, name).read(value);
    if (tensor.bytes() > left_) {
      fail(ErrorKind::bad_file, source_, ": tensor ", printable(name), " of shape ", to_string(tensor.shape),
           " repeats so few stored values so often that the file's tensors outgrow it beyond measure; "
           "save copies of expanded tensors: tensor.contiguous()");
    }
    left_ -= tensor.bytes();
    return tensor;
  }

  const Pickle& pickle_;
  const TorchStorages& storages_;
  const std::string& source_;
  uint64_t left_;  // bytes that tensors may still take
  size_t modules_ = 0, looked_at_ = 0;
  TorchFile& file_;
};

// The names at the top, for a message.
std::string key_list(const Pickle& pickle, const PickleValue& dict) {
  constexpr size_t kMost = 8;
  std::string list;
  const Items& items = *pickle.members(dict);
  for (size_t i = 0; i + 1 < items.size() && i < 2 * kMost; i += 2) {
    if (items[i].kind == Kind::string) list += concat(list.empty() ? "" : ", ", printable(items[i].text()));
  }
  return list;
}

[[noreturn]] void fail_empty(const Pickle& pickle, const std::string& source) {
  const std::string found = pickle.members(pickle.root)
                                ? concat(" its keys are ", key_list(pickle, pickle.root))
                                : " its top value is no dictionary";
  std::string keys;
  for (const std::string_view key : kStateDictKeys) keys += concat(keys.empty() ? "" : ", ", key);
  fail(ErrorKind::unsupported, source, ": holds no state_dict, neither at the top nor under one of ", keys,
       ";", found, "; save the model's state_dict with torch.save");
}

void add_values(TorchFile& file, const Pickle& pickle, const PickleValue& holder,
                std::span<const std::string_view> without) {
  const Json more = members_as_json(pickle, holder, without);
  for (const auto& [key, value] : more.as_object()) {
    if (file.values.find(key) == nullptr) file.values.set(key, value);
  }
}

// Attributes of a module, and of those that it wraps.
void add_attributes(TorchFile& file, const Pickle& pickle, const PickleValue& module) {
  const PickleValue* holder = &module;
  for (int level = 0; holder != nullptr && level < kMaxWrappers; ++level) {
    add_values(file, pickle, *holder, kModuleParts);
    holder = wrapped_module(pickle, *holder);
  }
}

}  // namespace

TorchFile read_state_dict(const Pickle& pickle, const TorchStorages& storages, uint64_t largest,
                          const std::string& source, TorchParts parts) {
  if (pickle.members(pickle.root) == nullptr) fail_empty(pickle, source);
  TorchFile file;
  file.values = Json::Object{};
  StateDictReader reader(pickle, storages, largest, source, file);
  PickleValue dict = pickle.root;
  for (int level = 0; level < kMaxWrappers && !is_module(pickle, dict); ++level) {
    const PickleValue* inner = wrapped_state_dict(pickle, dict);
    if (inner == nullptr) break;
    add_values(file, pickle, dict, kStateDictKeys);
    if (parts != TorchParts::state_dict) reader.take_beside(dict, kStateDictKeys);
    dict = *inner;
  }
  if (is_module(pickle, dict)) {
    reader.take_module(dict, "", 0);
    add_attributes(file, pickle, dict);
  } else {
    reader.take_entries(dict, "");
    add_values(file, pickle, dict, {});
  }
  const bool empty = file.tensors.empty() && file.unreadable.empty();
  if (empty && parts == TorchParts::nested) reader.take_beside(dict, {});
  if (empty && file.beside.empty() && !pickle.members(dict)->empty()) fail_empty(pickle, source);
  return file;
}

}  // namespace bdh
