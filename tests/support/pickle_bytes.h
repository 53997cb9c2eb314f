// Pickles put together by hand, right or wrong, and the archives they stand in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/zip_bytes.h"

namespace bdh::test::pickled {

using namespace std::string_literals;

inline std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

inline std::string text(std::string_view text) {
  return "X"s + little_endian(text.size(), 4) + std::string(text);
}

inline std::string number(int64_t value) {
  return "\x8a\x08"s + little_endian(static_cast<uint64_t>(value), 8);
}

inline std::string global(const std::string& module, const std::string& name) {
  return "c"s + module + "\n" + name + "\n";
}

inline std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += part;
  return out;
}

inline std::string tuple(const std::vector<std::string>& items) { return "("s + joined(items) + "t"; }

inline std::string numbers(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(number(value));
  return tuple(items);
}

inline std::string call(const std::string& callee, const std::vector<std::string>& arguments) {
  return callee + tuple(arguments) + "R";
}

/// Keys and values in turn.
inline std::string dict(const std::vector<std::string>& items) { return "}("s + joined(items) + "u"; }

inline std::string storage(const std::string& type, std::string_view key, int64_t elements) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), number(elements)}) + "Q";
}

inline std::string ordered_dict() { return global("collections", "OrderedDict") + ")R"; }

inline std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, number(offset), numbers(shape), numbers(strides), "\x89", ordered_dict()});
}

/// Protocol 2, the value, the end.
inline std::string pickle(const std::string& value) { return "\x80\x02"s + value + "."; }

/// An archive as torch.save writes it, with storages "0", "1", ...
inline std::string archive(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipPart> parts = {{"archive/data.pkl", pickle}, {"archive/byteorder", "little"}};
  for (size_t i = 0; i < storages.size(); ++i)
    parts.push_back({"archive/data/"s + std::to_string(i), storages[i]});
  parts.push_back({"archive/version", "3\n"});
  return zip_bytes(parts);
}

}  // namespace bdh::test::pickled
