// The pickles in PyTorch files, interpreted and never executed: they can build plain values, and references
// to tensors and storages that are checked where they are used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bdh {

/// A value, small and copied freely. Text points into the pickle's bytes, or to a constant. A pickle can make
/// a list hold itself and hold a list many times: whoever walks values bounds depth and work.
struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,
    real,    // also an integer beyond 64 bits
    string,  // as it stands in the file, perhaps not UTF-8
    bytes,
    global,  // text: the full name of a dtype or storage type, as torch.float16
    tuple,
    list,
    dict,     // items: key, value, key, value, ... as they were set, perhaps with a key twice
    storage,  // items: what names it, see TorchArchive
    tensor,   // items: arguments of torch._utils._rebuild_tensor_v2 or v3
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

/// A pickle's result.
struct Pickle {
  PickleValue root;
  std::vector<std::vector<PickleValue>> containers;
  size_t size = 0;  // bytes it was read from: every value in containers took at least one

  /// Of a value that has items: tuple, list, dict, storage, tensor.
  const std::vector<PickleValue>& items(const PickleValue& value) const { return containers[value.extent]; }
};

/// Interprets a pickle of protocol 1 to 5. `source` names it in errors; the bytes must outlive the result.
/// Throws Error(unsupported) naming a global other than those that make up a state_dict, or the number of an
/// opcode that torch.save does not use for one; Error(bad_file).
Pickle read_pickle(std::span<const std::byte> bytes, const std::string& source);

}  // namespace bdh
