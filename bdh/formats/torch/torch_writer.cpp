// Writes a state_dict as torch.save does: a pickle of an ordered dictionary, and one storage for each tensor
// beside it. Computes nothing.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/torch_file.h"
#include "bdh/formats/torch/torch_types.h"
#include "bdh/formats/torch/zip_writer.h"

namespace bdh {
namespace {

using Entry = TensorMap::value_type;

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
    const bool small = number <= std::numeric_limits<int32_t>::max();
    out_ += small ? "J" : "\x8a\x08";
    little_endian(static_cast<uint64_t>(number), small ? 4 : 8);
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

void check_writable(const std::filesystem::path& path, const Entry& entry) {
  const auto refuse = [&](std::string_view reason) {
    fail(ErrorKind::invalid_argument, "cannot write ", path.string(), ": tensor ", printable(entry.first),
         " ", reason);
  };
  if (!is_utf8(entry.first)) refuse("has a name that is not UTF-8; choose another");
  if (entry.second.device.kind != Device::Kind::cpu) refuse("is not in CPU memory; copy it there first");
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

std::string pickle_of(const TensorMap& tensors) {
  PickleWriter pickle;
  pickle.opcode("\x80\x02");
  pickle.global("collections.OrderedDict");
  pickle.opcode(")R");
  size_t key = 0;
  for (const auto& [name, tensor] : tensors) {
    pickle.text(name);
    write_tensor_call(pickle, tensor, key++);
    pickle.opcode("s");
  }
  pickle.opcode(".");
  return pickle.take();
}

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

}  // namespace

void write_torch_file(const std::filesystem::path& path, const TensorMap& tensors) {
  check_count(path, tensors.size());
  for (const Entry& entry : tensors) check_writable(path, entry);
  AtomicFile file(path);
  ZipWriter zip(file);
  zip.add(concat(kFolder, "data.pkl"), pickle_of(tensors));
  zip.add(concat(kFolder, "byteorder"), "little");
  size_t key = 0;
  for (const auto& [name, tensor] : tensors) {
    zip.begin(concat(kFolder, "data/", key++), tensor.bytes());
    write_elements(zip, tensor);
    zip.end();
  }
  zip.add(concat(kFolder, "version"), "3\n");
  zip.finish();
  file.commit();
}

}  // namespace bdh
