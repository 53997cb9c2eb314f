// The safetensors format: the header is checked against every rule of it, then tensors are views into the
// mapping.
#include "bdh/formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <tuple>

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/base/json_dom.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

namespace dom = simdjson::dom;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxMetadataEntries = 100'000;
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::string_view kRemedy = "; the file is incomplete or damaged, get it again from its source";

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The first 8 bytes as a little-endian number.
uint64_t length_prefix(std::span<const std::byte> bytes) {
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<uint64_t>(bytes[i]);
  return length;
}

struct OtherType {
  std::string_view name;
  uint64_t bits;
};

// Types of the format that this library has no tensors of.
constexpr std::array kOtherTypes{OtherType{"U16", 16},   OtherType{"U32", 32}, OtherType{"U64", 64},
                                 OtherType{"C64", 64},   OtherType{"F4", 4},   OtherType{"F6_E2M3", 6},
                                 OtherType{"F6_E3M2", 6}};

// Of one element; nothing for a type of a later version.
std::optional<uint64_t> bits_of_type(std::string_view type) {
  if (const std::optional<DType> known = dtype_from_name(type)) return 8 * size_of(*known);
  const auto other = std::find_if(kOtherTypes.begin(), kOtherTypes.end(),
                                  [&](const OtherType& candidate) { return candidate.name == type; });
  return other == kOtherTypes.end() ? std::nullopt : std::optional(other->bits);
}

// Checks what the header says. Every error names the file and, where there is one, the tensor.
class HeaderReader {
 public:
  HeaderReader(std::string source, uint64_t data_bytes)
      : source_(std::move(source)), data_bytes_(data_bytes) {}

  void read(std::string_view header) {
    dom::parser parser;
    const dom::element root = parse_json_dom(parser, header, concat(source_, ": header"));
    for (const auto [key, value] : dom_value<dom::object>(root)) {
      if (key == kMetadataKey)
        read_metadata(value);
      else
        tensors.push_back(read_tensor(key, value));
    }
    if (!has_other_fields_) reject_negative_zero(header);
    sort_by_bytes();
    sort_by_name();
    check_names();
    check_layout();
  }

  std::vector<TensorInfo> tensors;
  std::vector<uint32_t> by_name;  // positions in tensors
  Metadata metadata;

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, ": ", reason..., kRemedy);
  }

  template <class... Parts>
  [[noreturn]] void bad_tensor(std::string_view name, const Parts&... reason) const {
    bad("tensor ", printable(name), ": ", reason...);
  }

  // simdjson reads -0 as 0, so it has to be found in the text. No minus stands outside the strings of a valid
  // header without other fields.
  void reject_negative_zero(std::string_view header) const {
    if (header.find("-0") == header.npos) return;
    bool in_string = false;
    for (size_t i = 0; i < header.size(); ++i) {
      if (header[i] == '-' && !in_string) bad("the header has a negative number");
      if (header[i] == '"') in_string = !in_string;
      if (header[i] == '\\') ++i;
    }
  }

  void read_metadata(dom::element element) {
    if (has_metadata_) bad("the header has two ", kMetadataKey, " objects");
    has_metadata_ = true;
    if (element.is_null()) return;
    if (!element.is_object()) bad(kMetadataKey, " is not an object of strings");
    for (const auto [key, value] : dom_value<dom::object>(element)) {
      if (!value.is_string()) bad(kMetadataKey, ": the value of ", printable(key), " is not a string");
      if (metadata.size() >= kMaxMetadataEntries)
        bad(kMetadataKey, " has more than ", kMaxMetadataEntries, " entries");
      const bool added = metadata.emplace(key, dom_value<std::string_view>(value)).second;
      if (!added) bad(kMetadataKey, ": the key ", printable(key), " stands twice");
    }
  }

  TensorInfo read_tensor(std::string_view name, dom::element element) {
    if (!element.is_object()) bad_tensor(name, "its entry in the header is not an object");
    std::optional<dom::element> dtype, shape, offsets;
    for (const auto [key, value] : dom_value<dom::object>(element)) {
      auto* field = key == "dtype"          ? &dtype
                    : key == "shape"        ? &shape
                    : key == "data_offsets" ? &offsets
                                            : nullptr;
      has_other_fields_ = has_other_fields_ || field == nullptr;
      if (field == nullptr) continue;
      if (field->has_value()) bad_tensor(name, "the key ", printable(key), " stands twice");
      *field = value;
    }
    if (!dtype) bad_tensor(name, "dtype is missing");
    if (!shape) bad_tensor(name, "shape is missing");
    if (!offsets) bad_tensor(name, "data_offsets is missing");
    TensorInfo info;
    info.name = name;
    info.type = read_type(name, *dtype);
    info.dtype = dtype_from_name(info.type);
    info.shape = read_shape(name, *shape);
    std::tie(info.begin, info.end) = read_offsets(name, *offsets);
    check_size(info);
    return info;
  }

  std::string read_type(std::string_view name, dom::element element) const {
    if (!element.is_string()) bad_tensor(name, "dtype is not a string");
    return std::string(dom_value<std::string_view>(element));
  }

  // A whole number of at most int64's largest, written without point or exponent.
  int64_t read_number(std::string_view name, std::string_view what, dom::element element) const {
    if (element.type() == dom::element_type::UINT64)
      bad_tensor(name, what, " has a number that overflows 64 bits");
    if (element.type() != dom::element_type::INT64)
      bad_tensor(name, what, " has a value that is not a whole number");
    const auto value = dom_value<int64_t>(element);
    if (value < 0) bad_tensor(name, what, " has a negative number, ", value);
    return value;
  }

  Shape read_shape(std::string_view name, dom::element element) const {
    if (!element.is_array()) bad_tensor(name, "shape is not an array");
    Shape shape;
    for (const dom::element dimension : dom_value<dom::array>(element)) {
      shape.push_back(read_number(name, "shape", dimension));
    }
    return shape;
  }

  std::pair<uint64_t, uint64_t> read_offsets(std::string_view name, dom::element element) const {
    std::array<uint64_t, 2> offsets{};
    size_t count = 0;
    if (!element.is_array()) bad_tensor(name, "data_offsets is not an array");
    for (const dom::element offset : dom_value<dom::array>(element)) {
      if (count == offsets.size()) bad_tensor(name, "data_offsets has more than two numbers");
      offsets[count++] = static_cast<uint64_t>(read_number(name, "data_offsets", offset));
    }
    if (count != offsets.size()) bad_tensor(name, "data_offsets has fewer than two numbers");
    return {offsets[0], offsets[1]};
  }

  void check_size(const TensorInfo& info) const {
    if (info.begin > info.end) {
      bad_tensor(info.name, "data_offsets end at ", info.end, ", before they begin at ", info.begin);
    }
    const std::optional<uint64_t> needed = bytes_of(info);
    if (needed && info.end - info.begin != *needed) {
      bad_tensor(info.name, "data_offsets span ", info.end - info.begin, " bytes, but shape ",
                 to_string(info.shape), " of ", printable(info.type), " needs ", *needed);
    }
    if (info.end > data_bytes_) {
      bad_tensor(info.name, "its bytes end at ", info.end, ", past the end of the file's ", data_bytes_,
                 " bytes of data");
    }
  }

  // Nothing for a type that nobody knows here.
  std::optional<uint64_t> bytes_of(const TensorInfo& info) const {
    const std::optional<uint64_t> bits = bits_of_type(info.type);
    if (!bits) return {};
    uint64_t needed = 0;
    if (__builtin_mul_overflow(elements_of(info), *bits, &needed)) {
      bad_tensor(info.name, "shape ", to_string(info.shape), " of ", printable(info.type),
                 " has more bytes than 64 bits can count");
    }
    if (needed % 8 != 0) bad_tensor(info.name, "its elements end within a byte");
    return needed / 8;
  }

  uint64_t elements_of(const TensorInfo& info) const {
    try {
      return static_cast<uint64_t>(element_count(info.shape));
    } catch (const Error& error) {
      bad_tensor(info.name, error.what());
    }
  }

  void sort_by_bytes() {
    const auto before = [](const TensorInfo& a, const TensorInfo& b) {
      return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    };
    if (!std::is_sorted(tensors.begin(), tensors.end(), before))
      std::sort(tensors.begin(), tensors.end(), before);
  }

  void sort_by_name() {
    by_name.resize(tensors.size());
    std::iota(by_name.begin(), by_name.end(), 0u);
    std::sort(by_name.begin(), by_name.end(),
              [this](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  }

  void check_names() const {
    const auto same = [this](uint32_t a, uint32_t b) { return tensors[a].name == tensors[b].name; };
    const auto twice = std::adjacent_find(by_name.begin(), by_name.end(), same);
    if (twice != by_name.end()) bad_tensor(tensors[*twice].name, "the name stands twice in the header");
  }

  // Tensors fill the data section, each starting where the one before ends.
  void check_layout() const {
    uint64_t expected = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo& info = tensors[i];
      if (info.begin < expected)
        bad_tensor(info.name, "its bytes overlap those of ", printable(tensors[i - 1].name));
      if (info.begin > expected)
        bad_tensor(info.name, "begins at ", info.begin, ", which leaves a hole after ", expected);
      expected = info.end;
    }
    if (expected != data_bytes_) bad(data_bytes_ - expected, " bytes after the last tensor belong to none");
  }

  std::string source_;
  uint64_t data_bytes_;
  bool has_metadata_ = false;
  bool has_other_fields_ = false;  // which the package skips, whatever is in them
};

std::string_view checked_header(const std::string& source, std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    fail(ErrorKind::bad_file, source, ": too short for a safetensors file, ", bytes.size(), " bytes",
         kRemedy);
  }
  const uint64_t length = length_prefix(bytes);
  if (length > kMaxHeaderBytes) {
    fail(ErrorKind::bad_file, source, ": the header claims ", length, " bytes, more than the ",
         kMaxHeaderBytes, " allowed", kRemedy);
  }
  if (length > bytes.size() - kLengthBytes) {
    fail(ErrorKind::bad_file, source, ": the header claims ", length, " bytes, past the end of the file",
         kRemedy);
  }
  const std::string_view header = text_of(bytes.subspan(kLengthBytes, length));
  if (header.empty() || header[0] != '{') {
    fail(ErrorKind::bad_file, source, ": the header does not begin with '{'", kRemedy);
  }
  return header;
}

// The reference package's order, last first; types that this library does not know are left out.
constexpr std::array kWritingOrder = {
    DType::boolean, DType::u8,          DType::i8,          DType::f8_e5m2, DType::f8_e4m3,
    DType::f8_e8m0, DType::f8_e4m3fnuz, DType::f8_e5m2fnuz, DType::i16,     DType::f16,
    DType::bf16,    DType::i32,         DType::f32,         DType::f64,     DType::i64,
};

using Entry = TensorMap::value_type;

auto writing_rank(DType dtype) { return std::find(kWritingOrder.begin(), kWritingOrder.end(), dtype); }

// The largest power of two up to `most` that divides a tensor's bytes.
size_t alignment_of(const Tensor& tensor, size_t most) {
  const size_t bytes = tensor.bytes() | most;
  return bytes & -bytes;
}

// The map's order by name is kept within a type; with an alignment, after the order by that.
std::vector<const Entry*> in_writing_order(const TensorMap& tensors, size_t alignment) {
  std::vector<const Entry*> order;
  for (const Entry& entry : tensors) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return writing_rank(a->second.dtype) > writing_rank(b->second.dtype);
  });
  if (alignment > kSafetensorsAlignment) {
    std::stable_sort(order.begin(), order.end(), [alignment](const Entry* a, const Entry* b) {
      return alignment_of(a->second, alignment) > alignment_of(b->second, alignment);
    });
  }
  return order;
}

std::string json_string(std::string_view text) { return Json(text).dump(); }

void require_utf8(const std::filesystem::path& path, std::string_view what, std::string_view text) {
  if (simdjson::validate_utf8(text.data(), text.size())) return;
  fail(ErrorKind::invalid_argument, "cannot write ", path.string(), ": ", what, " ", printable(text),
       " is not UTF-8; choose another");
}

std::string metadata_json(const std::filesystem::path& path, const Metadata& metadata) {
  std::string json;
  for (const auto& [key, value] : metadata) {
    require_utf8(path, "metadata key", key);
    require_utf8(path, "metadata value", value);
    json += concat(json.empty() ? "" : ",", json_string(key), ":", json_string(value));
  }
  return concat(json_string(kMetadataKey), ":{", json, "}");
}

void check_writable(const std::filesystem::path& path, const Entry& entry) {
  const std::string& name = entry.first;
  const Tensor& tensor = entry.second;
  require_utf8(path, "tensor name", name);
  const auto refuse = [&](std::string_view reason) {
    fail(ErrorKind::invalid_argument, "cannot write ", path.string(), ": tensor ", printable(name), " ",
         reason);
  };
  if (name == kMetadataKey) refuse("has the name of the metadata; rename it");
  if (tensor.device.kind != Device::Kind::cpu) refuse("is not in CPU memory; copy it there first");
  if (tensor.shape.size() > TensorInfo::kMaxRank)
    refuse(concat("has more than ", TensorInfo::kMaxRank, " dimensions; reshape it"));
}

std::string shape_json(const Shape& shape) {
  std::string json;
  for (const int64_t dimension : shape) json += concat(json.empty() ? "" : ",", dimension);
  return concat("[", json, "]");
}

std::string header_json(const std::filesystem::path& path, const std::vector<const Entry*>& order,
                        const Metadata& metadata, size_t alignment) {
  std::string json = "{";
  if (!metadata.empty()) json += metadata_json(path, metadata);
  uint64_t begin = 0;
  for (const Entry* entry : order) {
    const auto& [name, tensor] = *entry;
    check_writable(path, *entry);
    const uint64_t end = begin + tensor.bytes();
    json += concat(json.size() > 1 ? "," : "", json_string(name), ":{\"dtype\":\"", name_of(tensor.dtype),
                   "\",\"shape\":", shape_json(tensor.shape), ",\"data_offsets\":[", begin, ",", end, "]}");
    begin = end;
  }
  json += "}";
  const size_t data_offset = (kLengthBytes + json.size() + alignment - 1) / alignment * alignment;
  json.resize(data_offset - kLengthBytes, ' ');
  if (json.size() > kMaxHeaderBytes) {
    fail(ErrorKind::invalid_argument, "cannot write ", path.string(), ": its header of ",
         format_bytes(json.size()),
         " is longer than the format allows; write fewer tensors or less metadata");
  }
  return json;
}

using Sink = std::function<void(std::span<const std::byte>)>;

void write_length(const Sink& sink, uint64_t length) {
  std::array<std::byte, kLengthBytes> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(length >> (8 * i));
  sink(bytes);
}

using Written = std::function<void(size_t)>;

void write_contiguous(const Sink& sink, const Tensor& tensor, const Written& written) {
  constexpr size_t kPiece = size_t{16} << 20;
  for (std::span<const std::byte> left(tensor.data, tensor.bytes()); !left.empty();) {
    const std::span<const std::byte> piece = left.first(std::min(kPiece, left.size()));
    sink(piece);
    if (tensor.give_back) tensor.give_back(piece);
    if (written) written(piece.size());
    left = left.subspan(piece.size());
  }
}

void write_strided(const Sink& sink, const Tensor& tensor, const Written& written) {
  constexpr int64_t kChunkElements = 1 << 16;
  const auto size = static_cast<int64_t>(size_of(tensor.dtype));
  std::vector<std::byte> chunk(static_cast<size_t>(kChunkElements * size));
  const int64_t count = tensor.numel();
  for (int64_t first = 0; first < count; first += kChunkElements) {
    const auto bytes = static_cast<size_t>(std::min(kChunkElements, count - first) * size);
    copy_row_major(tensor, first, std::min(kChunkElements, count - first), chunk.data());
    sink(std::span(chunk).first(bytes));
    if (written) written(bytes);
  }
}

void write_tensor(const Sink& sink, const Tensor& tensor, const Written& written) {
  if (tensor.contiguous()) return write_contiguous(sink, tensor, written);
  write_strided(sink, tensor, written);
}

void write_all(const Sink& sink, const std::filesystem::path& path, const TensorMap& tensors,
               const Metadata& metadata, size_t alignment, const Written& written) {
  const std::vector<const Entry*> order = in_writing_order(tensors, alignment);
  const std::string header = header_json(path, order, metadata, alignment);
  write_length(sink, header.size());
  sink(std::as_bytes(std::span(header)));
  for (const Entry* entry : order) write_tensor(sink, entry->second, written);
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  SafetensorsFile opened = of_bytes(file->bytes(), file, path.string());
  opened.mapped_ = true;
  return opened;
}

SafetensorsFile SafetensorsFile::of_bytes(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                          const std::string& name) {
  SafetensorsFile opened;
  opened.path_ = name;
  opened.bytes_ = bytes;
  opened.owner_ = std::move(owner);
  const std::string_view header = checked_header(name, bytes);
  opened.data_offset_ = kLengthBytes + header.size();
  HeaderReader reader(name, bytes.size() - opened.data_offset_);
  reader.read(header);
  opened.tensors_ = std::move(reader.tensors);
  opened.by_name_ = std::move(reader.by_name);
  opened.metadata_ = std::move(reader.metadata);
  return opened;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [this](uint32_t i, std::string_view key) { return tensors_[i].name < key; });
  if (found == by_name_.end() || tensors_[*found].name != name) {
    fail(ErrorKind::not_found, path().string(), ": tensor ", printable(name),
         ": not in the file; check the name against those it has");
  }
  const TensorInfo& info = tensors_[*found];
  if (!info.usable()) throw refusal(info);
  Tensor tensor;
  tensor.dtype = *info.dtype;
  tensor.shape = info.shape;
  tensor.strides = contiguous_strides(info.shape);
  tensor.data = bytes_.data() + data_offset_ + info.begin;
  tensor.owner = owner_;
  if (mapped_) tensor.give_back = release_pages;
  return tensor;
}

Error SafetensorsFile::refusal(const TensorInfo& info) const {
  const std::string what = info.dtype
                               ? concat(info.shape.size(), " dimensions, more than ", TensorInfo::kMaxRank)
                               : concat("dtype ", printable(info.type));
  return {ErrorKind::unsupported, concat(path().string(), ": tensor ", printable(info.name), " has ", what,
                                         ", which bdh does not compute with; save it as F32, F16 or BF16")};
}

bool is_safetensors(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file->bytes();
  return bytes.size() > kLengthBytes && length_prefix(bytes) <= kMaxHeaderBytes &&
         static_cast<char>(bytes[kLengthBytes]) == '{';
}

std::vector<TensorInfo> list_tensors(const std::filesystem::path& path) {
  return SafetensorsFile::open(path).tensors();
}

Metadata read_metadata(const std::filesystem::path& path) { return SafetensorsFile::open(path).metadata(); }

FileIdentity write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                               const Metadata& metadata, const std::function<void(size_t)>& written,
                               size_t alignment) {
  AtomicFile file(path);
  write_all([&](std::span<const std::byte> bytes) { file.write(bytes); }, path, tensors, metadata, alignment,
            written);
  return file.commit();
}

std::vector<std::byte> safetensors_bytes(const TensorMap& tensors, const Metadata& metadata,
                                         size_t alignment) {
  std::vector<std::byte> bytes;
  write_all([&](std::span<const std::byte> piece) { bytes.insert(bytes.end(), piece.begin(), piece.end()); },
            "a buffer", tensors, metadata, alignment, {});
  return bytes;
}

}  // namespace bdh
