// The pickles in PyTorch files, interpreted and never executed: they can build plain values, references to
// tensors and storages that are checked where they are used, and records of what Python would have made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bdh {

/// A value, small and copied freely. Text points into the pickle's bytes, or to Pickle::names. A pickle can
/// make a list hold itself and hold a list many times: whoever walks values bounds depth and work.
struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,
    real,    // also an integer beyond 64 bits
    string,  // as it stands in the file, perhaps not UTF-8
    bytes,
    global,  // text: the full name, as torch.float16
    tuple,
    list,     // also a set
    dict,     // items: key, value, key, value, ... as they were set, perhaps with a key twice
    storage,  // items: what names it, see TorchArchive
    tensor,   // items: arguments of torch._utils._rebuild_tensor, _v2 or _v3
    object,   // anything else that a call makes; items: see PickleObject
  };
  Kind kind = Kind::none;
  uint32_t extent = 0;  // length of the text, or position of the items
  union {
    int64_t integer = 0;  // also a boolean's
    double real;
    const char* start;
  };

  std::string_view text() const { return {start, extent}; }
};

/// The items of an object: what would have been called, with what, and what was set on the result.
enum class PickleObject : uint8_t { callee, arguments, state, list, dict, parts };

/// A pickle's result.
struct Pickle {
  PickleValue root;
  std::vector<std::vector<PickleValue>> containers;
  std::set<std::string, std::less<>> names;  // texts that do not stand in the bytes as they are
  size_t size = 0;  // bytes it was read from: every value in containers took at least one

  /// Of a value that has items: tuple, list, dict, storage, tensor, object.
  const std::vector<PickleValue>& items(const PickleValue& value) const { return containers[value.extent]; }
  const PickleValue& part(const PickleValue& object, PickleObject part) const {
    return items(object)[static_cast<size_t>(part)];
  }
  /// Keys and values of a dict, of what behaves as one, or the attributes of an object; else nothing.
  const std::vector<PickleValue>* members(const PickleValue& value) const;
  /// The last value under that key, or nothing; `value` may be anything.
  const PickleValue* find(const PickleValue& value, std::string_view key) const;
  /// "a sparse tensor", "an object of numpy.ndarray": for messages.
  std::string describe(const PickleValue& value) const;
};

/// Interprets a pickle of protocol 1 to 5. `source` names it in errors; the bytes must outlive the result.
/// *used: how many bytes it has; more may follow it only where that is asked for. Throws Error(bad_file);
/// Error(unsupported) with the number of an opcode that torch.save does not use.
Pickle read_pickle(std::span<const std::byte> bytes, const std::string& source, size_t* used = nullptr);

}  // namespace bdh
