// Writes what torch.save does: a pickle of dictionaries, lists and plain values, and one storage for each
// tensor beside it. Computes nothing.
#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/torch_file.h"
#include "bdh/formats/torch/torch_types.h"
#include "bdh/formats/torch/zip_writer.h"

namespace bdh {
namespace {

constexpr std::string_view kFolder = "archive/";
constexpr int64_t kChunkElements = 1 << 16;

// Appends opcodes of pickle protocol 2.
class PickleWriter {
 public:
  void opcode(std::string_view code) { out_ += code; }

  void global(std::string_view full_name) {
    const size_t dot = full_name.rfind('.');
    out_ += concat("c", full_name.substr(0, dot), "\n", full_name.substr(dot + 1), "\n");
  }

  void text(std::string_view text) {
    out_ += 'X';
    little_endian(text.size(), 4);
    out_ += text;
  }

  void number(int64_t number) {
    using Small = std::numeric_limits<int32_t>;
    const bool small = number >= Small::min() && number <= Small::max();
    out_ += small ? "J" : "\x8a\x08";
    little_endian(static_cast<uint64_t>(number), small ? 4 : 8);
  }

  void real(double number) {
    out_ += 'G';
    for (int i = 7; i >= 0; --i) out_ += static_cast<char>(std::bit_cast<uint64_t>(number) >> (8 * i) & 0xff);
  }

  void tuple(const Shape& numbers) {
    out_ += '(';
    for (const int64_t value : numbers) number(value);
    out_ += 't';
  }

  std::string take() { return std::move(out_); }

 private:
  void little_endian(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xff);
  }

  std::string out_;
};

[[noreturn]] void refuse(const std::filesystem::path& path, const char* what, std::string_view name,
                         const char* reason) {
  fail(ErrorKind::invalid_argument, "cannot write ", path.string(), ": ", what, " ", printable(name), " ",
       reason);
}

void check_writable(const std::filesystem::path& path, std::string_view name, const Tensor& tensor) {
  if (!is_utf8(name)) refuse(path, "tensor", name, "has a name that is not UTF-8; choose another");
  if (tensor.device.kind != Device::Kind::cpu)
    refuse(path, "tensor", name, "is not in CPU memory; copy it there first");
}

// minizip counts an archive's entries in 16 bits; three of them are no tensors.
void check_count(const std::filesystem::path& path, size_t tensors) {
  constexpr size_t kMostTensors = 65535 - 3;
  if (tensors <= kMostTensors) return;
  fail(ErrorKind::unsupported, "cannot write ", path.string(), ": ", tensors, " tensors are more than the ",
       kMostTensors, " that bdh puts into one PyTorch file; write safetensors or smaller shards");
}

// ("storage", type, key, location, elements), and the storage that it stands for.
void write_storage_name(PickleWriter& pickle, const Tensor& tensor, size_t key) {
  const TorchTypeName type = torch_type_name(tensor.dtype);
  pickle.opcode("(");
  pickle.text("storage");
  pickle.global(type.storage.empty() ? kUntypedStorage : type.storage);
  pickle.text(std::to_string(key));
  pickle.text("cpu");
  pickle.number(type.storage.empty() ? static_cast<int64_t>(tensor.bytes()) : tensor.numel());
  pickle.opcode("tQ");
}

// A call: function, arguments, REDUCE.
void write_tensor_call(PickleWriter& pickle, const Tensor& tensor, size_t key) {
  const TorchTypeName type = torch_type_name(tensor.dtype);
  pickle.global(type.storage.empty() ? "torch._utils._rebuild_tensor_v3" : "torch._utils._rebuild_tensor_v2");
  pickle.opcode("(");
  write_storage_name(pickle, tensor, key);
  pickle.number(0);
  pickle.tuple(tensor.shape);
  pickle.tuple(contiguous_strides(tensor.shape));
  pickle.opcode("\x89");  // needs no gradient
  pickle.global("collections.OrderedDict");
  pickle.opcode(")R");  // has no hooks
  if (type.storage.empty()) pickle.global(type.dtype);
  pickle.opcode("tR");
}

using Tensors = std::vector<const Tensor*>;  // in the order of their storages

std::string pickle_of(const TensorMap& state_dict, Tensors& tensors) {
  PickleWriter pickle;
  pickle.opcode("\x80\x02");
  pickle.global("collections.OrderedDict");
  pickle.opcode(")R");
  for (const auto& [name, tensor] : state_dict) {
    pickle.text(name);
    write_tensor_call(pickle, tensor, tensors.size());
    pickle.opcode("s");
    tensors.push_back(&tensor);
  }
  pickle.opcode(".");
  return pickle.take();
}

// Writes a value, whatever it holds; collects the tensors.
class ValueWriter {
 public:
  ValueWriter(const std::filesystem::path& path, Tensors& tensors) : path_(path), tensors_(tensors) {}

  std::string pickle_of(const TorchValue& value) {
    pickle_.opcode("\x80\x02");
    write(value);
    pickle_.opcode(".");
    return pickle_.take();
  }

 private:
  void write(const TorchValue& value) {
    std::visit([this](const auto& plain) { write(plain); }, value.value);
  }
  void write(std::nullptr_t) { pickle_.opcode("N"); }
  void write(bool value) { pickle_.opcode(value ? "\x88" : "\x89"); }
  void write(int64_t value) { pickle_.number(value); }
  void write(double value) { pickle_.real(value); }
  void write(const std::string& text) {
    if (!is_utf8(text)) refuse(path_, "text", text, "is not UTF-8; choose another");
    pickle_.text(text);
  }
  void write(const Tensor& tensor) {
    check_writable(path_, "", tensor);
    write_tensor_call(pickle_, tensor, tensors_.size());
    tensors_.push_back(&tensor);
  }
  void write(const TorchList& list) {
    pickle_.opcode("](");
    for (const TorchValue& item : list) write(item);
    pickle_.opcode("e");
  }
  void write(const TorchTuple& tuple) {
    pickle_.opcode("(");
    for (const TorchValue& item : tuple.items) write(item);
    pickle_.opcode("t");
  }
  void write(const TorchDict& dict) {
    pickle_.opcode("}(");
    for (const auto& [key, value] : dict) write(key), write(value);
    pickle_.opcode("u");
  }

  const std::filesystem::path& path_;
  Tensors& tensors_;
  PickleWriter pickle_;
};

void write_elements(ZipWriter& zip, const Tensor& tensor) {
  if (tensor.contiguous()) return zip.write(std::span(tensor.data, tensor.bytes()));
  const auto size = static_cast<int64_t>(size_of(tensor.dtype));
  std::vector<std::byte> chunk(static_cast<size_t>(kChunkElements * size));
  const int64_t count = tensor.numel();
  for (int64_t first = 0; first < count; first += kChunkElements) {
    const int64_t length = std::min(kChunkElements, count - first);
    copy_row_major(tensor, first, length, chunk.data());
    zip.write(std::span(chunk).first(static_cast<size_t>(length * size)));
  }
}

void write_archive(const std::filesystem::path& path, const std::string& pickle, const Tensors& tensors) {
  check_count(path, tensors.size());
  AtomicFile file(path);
  ZipWriter zip(file);
  zip.add(concat(kFolder, "data.pkl"), pickle);
  zip.add(concat(kFolder, "byteorder"), "little");
  for (size_t key = 0; key < tensors.size(); ++key) {
    zip.begin(concat(kFolder, "data/", key), tensors[key]->bytes());
    write_elements(zip, *tensors[key]);
    zip.end();
  }
  zip.add(concat(kFolder, "version"), "3\n");
  zip.finish();
  file.commit();
}

}  // namespace

void write_torch_file(const std::filesystem::path& path, const TensorMap& tensors) {
  for (const auto& [name, tensor] : tensors) check_writable(path, name, tensor);
  Tensors in_order;
  const std::string pickle = pickle_of(tensors, in_order);
  write_archive(path, pickle, in_order);
}

void write_torch_value(const std::filesystem::path& path, const TorchValue& value) {
  Tensors tensors;
  const std::string pickle = ValueWriter(path, tensors).pickle_of(value);
  write_archive(path, pickle, tensors);
}

}  // namespace bdh
