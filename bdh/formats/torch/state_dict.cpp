// From a checkpoint's values to its tensors and configuration. Only what belongs to the state_dict is looked
// at; optimizer states and other values beside it are not.
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

constexpr std::array<std::string_view, 3> kStateDictKeys = {"model_state_dict", "state_dict", "model"};
constexpr std::string_view kConfigKey = "config";
constexpr int kMaxWrappers = 8;
constexpr size_t kMaxRank = 64;

// Places in the arguments of _rebuild_tensor_v2 and v3.
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

const PickleValue* find(const Pickle& pickle, const PickleValue& dict, std::string_view key) {
  const Items& items = pickle.items(dict);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i].kind == Kind::string && items[i].text() == key) return &items[i + 1];
  }
  return nullptr;
}

const PickleValue* find_dict(const Pickle& pickle, const PickleValue& dict, std::string_view key) {
  const PickleValue* value = find(pickle, dict, key);
  return value != nullptr && value->kind == Kind::dict ? value : nullptr;
}

const PickleValue* wrapped_state_dict(const Pickle& pickle, const PickleValue& dict) {
  for (const std::string_view key : kStateDictKeys) {
    if (const PickleValue* value = find_dict(pickle, dict, key)) return value;
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
    unsupported("has the type ", type, ", which bdh does not know; convert it to float32 before saving");
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
    const std::optional<DType> type = dtype_of_torch_type(parts[kStorageType].text());
    const uint64_t element = type ? size_of(*type) : 1;
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

TensorMap read_tensors(const Pickle& pickle, const PickleValue& dict, const TorchStorages& storages,
                       uint64_t largest, const std::string& source) {
  TensorMap tensors;
  const Items& items = pickle.items(dict);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i].kind != Kind::string || items[i + 1].kind != Kind::tensor) continue;
    const std::string_view name = items[i].text();
    if (!is_utf8(name)) {
      fail(ErrorKind::bad_file, source, ": tensor name ", printable(name),
           " is not UTF-8; the file is damaged, get it again from its source");
    }
    const Tensor tensor = TensorReader(pickle, storages, source, name).read(items[i + 1]);
    if (tensor.bytes() > largest) {
      fail(ErrorKind::bad_file, source, ": tensor ", printable(name), " of shape ", to_string(tensor.shape),
           " repeats so few stored values so often that the file's tensors outgrow it beyond measure; "
           "save copies of expanded tensors: tensor.contiguous()");
    }
    largest -= tensor.bytes();
    if (!tensors.emplace(name, tensor).second) {
      fail(ErrorKind::bad_file, source, ": tensor ", printable(name),
           " stands twice; the file is damaged, get it again from its source");
    }
  }
  return tensors;
}

// The names at the top, for a message.
std::string key_list(const Pickle& pickle, const PickleValue& dict) {
  constexpr size_t kMost = 8;
  std::string list;
  const Items& items = pickle.items(dict);
  for (size_t i = 0; i + 1 < items.size() && i < 2 * kMost; i += 2) {
    if (items[i].kind == Kind::string) list += concat(list.empty() ? "" : ", ", printable(items[i].text()));
  }
  return list;
}

[[noreturn]] void fail_empty(const Pickle& pickle, const std::string& source) {
  const std::string found = pickle.root.kind == Kind::dict
                                ? concat(" its keys are ", key_list(pickle, pickle.root))
                                : " its top value is no dictionary";
  fail(ErrorKind::bad_file, source, ": holds no state_dict, neither at the top nor under model_state_dict, ",
       "state_dict or model;", found, "; save the model's state_dict with torch.save");
}

}  // namespace

TorchFile read_state_dict(const Pickle& pickle, const TorchStorages& storages, uint64_t largest,
                          const std::string& source) {
  if (pickle.root.kind != Kind::dict) fail_empty(pickle, source);
  TorchFile file;
  PickleValue dict = pickle.root;
  for (int level = 0; level < kMaxWrappers; ++level) {
    const PickleValue* config = file.config.is_null() ? find_dict(pickle, dict, kConfigKey) : nullptr;
    if (config != nullptr) file.config = json_of(pickle, *config, concat(source, ": config"));
    const PickleValue* inner = wrapped_state_dict(pickle, dict);
    if (inner == nullptr) break;
    dict = *inner;
  }
  file.tensors = read_tensors(pickle, dict, storages, largest, source);
  if (file.tensors.empty() && !pickle.items(dict).empty()) fail_empty(pickle, source);
  return file;
}

}  // namespace bdh
