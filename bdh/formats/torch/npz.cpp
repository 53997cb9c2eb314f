// NumPy's .npz files: each array's header is a Python dictionary of three known keys, which is read as text.
#include "bdh/formats/torch/npz.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/zip_reader.h"

namespace bdh {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kExtension = ".npy";
constexpr size_t kShortHeader = 10;  // magic, version, a length of 16 bits
constexpr size_t kLongHeader = 12;   // from version 2 on: of 32 bits
constexpr size_t kMaxHeader = 1 << 16;
constexpr size_t kMaxRank = 64;

// Where the name of a zip archive's first file stands.
constexpr size_t kNameLengthAt = 26;
constexpr size_t kNameAt = 30;

struct TypeCode {
  std::string_view code;
  DType dtype;
};
constexpr std::array kTypes{
    TypeCode{"<f8", DType::f64}, TypeCode{"<f4", DType::f32}, TypeCode{"<f2", DType::f16},
    TypeCode{"<i8", DType::i64}, TypeCode{"<i4", DType::i32}, TypeCode{"<i2", DType::i16},
    TypeCode{"|i1", DType::i8},  TypeCode{"|u1", DType::u8},  TypeCode{"|b1", DType::boolean}};

class ArrayReader {
 public:
  ArrayReader(std::span<const std::byte> bytes, const std::string& source, std::string_view name)
      : bytes_(bytes),
        text_(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
        source_(source),
        name_(name) {}

  Tensor read() const {
    const size_t data = data_offset();
    const std::string_view header = text_.substr(0, data);
    Tensor tensor;
    tensor.dtype = dtype(value_of(header, "descr"));
    tensor.shape = shape(value_of(header, "shape"));
    tensor.strides = strides(tensor.shape, value_of(header, "fortran_order").starts_with("True"));
    if (bytes_of(tensor) != bytes_.size() - data) {
      bad("has ", bytes_.size() - data, " bytes where its shape ", to_string(tensor.shape), " of ",
          name_of(tensor.dtype), " makes ", bytes_of(tensor));
    }
    tensor.data = bytes_.data() + data;
    return tensor;
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, ": array ", printable(name_), " ", reason...,
         "; the file is damaged, get it again from its source");
  }

  size_t number(size_t at, size_t bytes) const {
    size_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(text_[at + i]);
    return value;
  }

  size_t data_offset() const {
    if (text_.size() < kLongHeader || !text_.starts_with(kMagic)) bad("does not begin as NumPy's do");
    const bool is_short = text_[kMagic.size()] == 1;
    const size_t start = is_short ? kShortHeader : kLongHeader;
    const size_t length = is_short ? number(start - 2, 2) : number(start - 4, 4);
    if (length > kMaxHeader || length > text_.size() - start) bad("has a header of ", length, " bytes");
    return start + length;
  }

  /// What follows 'key': in the header.
  std::string_view value_of(std::string_view header, std::string_view key) const {
    const std::string quoted = concat("'", key, "':");
    const size_t at = header.find(quoted);
    if (at == header.npos) bad("has a header without ", key);
    header.remove_prefix(at + quoted.size());
    header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
    return header;
  }

  DType dtype(std::string_view value) const {
    const std::string_view code =
        value.starts_with('\'') ? value.substr(1, value.find('\'', 1) - 1) : value.substr(0, 12);
    const auto found =
        std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeCode& type) { return type.code == code; });
    if (found != kTypes.end()) return found->dtype;
    fail(ErrorKind::unsupported, source_, ": array ", printable(name_), " has the type ", printable(code),
         ", which bdh does not compute with; save it as float32");
  }

  Shape shape(std::string_view value) const {
    if (!value.starts_with('(')) bad("has a shape that is no tuple");
    std::string_view rest = value.substr(1);
    Shape shape;
    while (true) {
      rest.remove_prefix(std::min(rest.find_first_not_of(" ,"), rest.size()));
      if (rest.starts_with(')')) return shape;
      int64_t size = 0;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
      if (error != std::errc() || size < 0 || shape.size() == kMaxRank) bad("has a shape that is none");
      shape.push_back(size);
      rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    }
  }

  static Shape strides(const Shape& shape, bool column_major) {
    if (!column_major) return contiguous_strides(shape);
    Shape strides = contiguous_strides(Shape(shape.rbegin(), shape.rend()));
    std::reverse(strides.begin(), strides.end());
    return strides;
  }

  uint64_t bytes_of(const Tensor& tensor) const {
    try {
      return tensor.bytes();
    } catch (const Error& error) {
      bad("has a shape of ", error.what());
    }
  }

  std::span<const std::byte> bytes_;
  std::string_view text_;
  const std::string& source_;
  std::string_view name_;
};

}  // namespace

bool is_npz(std::string_view bytes) {
  if (bytes.size() < kNameAt) return false;
  const auto length = static_cast<size_t>(static_cast<uint8_t>(bytes[kNameLengthAt]) |
                                          static_cast<uint8_t>(bytes[kNameLengthAt + 1]) << 8);
  return bytes.substr(kNameAt, length).ends_with(kExtension);
}

TorchFile read_npz(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                   const std::string& source) {
  ZipReader zip(bytes, source);
  TorchFile file;
  file.values = Json::Object{};
  for (const ZipEntry& entry : zip.entries()) {
    if (!entry.name.ends_with(kExtension)) continue;
    const std::string name = entry.name.substr(0, entry.name.size() - kExtension.size());
    if (!is_utf8(name)) {
      fail(ErrorKind::bad_file, source, ": array name ", printable(name),
           " is not UTF-8; the file is damaged");
    }
    try {
      const auto memory = entry.compressed ? zip.unpack(entry) : nullptr;
      const std::span<const std::byte> data = memory ? std::span(memory.get(), entry.bytes) : zip.view(entry);
      Tensor tensor = ArrayReader(data, source, name).read();
      tensor.owner = memory ? std::shared_ptr<const void>(memory) : owner;
      if (!memory) tensor.give_back = release_pages;
      file.tensors.emplace(name, std::move(tensor));
      file.order.push_back(name);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::out_of_memory) throw;
      file.unreadable.emplace(name, error);
    }
  }
  return file;
}

}  // namespace bdh
