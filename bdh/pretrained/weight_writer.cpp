// Writes a state_dict as weights files: safetensors or PyTorch's, one file or shards with their index.
#include "bdh/pretrained/weight_writer.h"

#include <algorithm>
#include <map>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/memory.h"
#include "bdh/formats/shards.h"
#include "bdh/model/packed_layout.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/torch_support.h"

namespace bdh {
namespace {

DType dtype_to_write(const std::string& name, const Tensor& tensor, const WeightForm& form) {
  return name == "attn.freqs" ? tensor.dtype : form.dtype.value_or(tensor.dtype);
}

std::vector<TensorSize> sizes_of(const TensorList& tensors, const WeightForm& form) {
  std::vector<TensorSize> sizes;
  for (const auto& [name, tensor] : tensors) {
    sizes.push_back({name, byte_size(dtype_to_write(name, tensor, form), tensor.shape)});
  }
  return sizes;
}

TensorMap converted_shard(const TensorMap& tensors, const Shard& shard, const WeightForm& form) {
  TensorMap converted_tensors;
  for (const std::string& name : shard.tensors) {
    const Tensor& tensor = tensors.at(name);
    const DType dtype = dtype_to_write(name, tensor, form);
    // write_safetensors takes strided ones.
    converted_tensors[name] = form.safetensors && dtype == tensor.dtype ? tensor : converted(tensor, dtype);
    if (dtype != tensor.dtype) release(tensor, 0, tensor.bytes());
  }
  return converted_tensors;
}

void write_shard(const std::filesystem::path& path, const TensorMap& tensors, const Shard& shard,
                 const WeightForm& form, ByteMeter& meter) {
  const TensorMap part = converted_shard(tensors, shard, form);
  if (form.safetensors) {
    Metadata metadata = form.metadata;
    if (form.packed) metadata[kLayoutKey] = kPackedLayout;
    write_safetensors(
        path, part, metadata, [&](size_t bytes) { meter.add(bytes); },
        form.packed ? kPackedAlignment : kSafetensorsAlignment);
  } else {
    save_torch_file(path, part);
    meter.add(shard.bytes);
  }
}

void write_index(const std::filesystem::path& path, const std::vector<Shard>& shards, int64_t parameters) {
  AtomicFile file(path);
  file.write(shard_index(shards, parameters).dump(2) + "\n");
  file.commit();
}

uint64_t total_of(const std::vector<TensorSize>& sizes) {
  uint64_t bytes = 0;
  for (const TensorSize& size : sizes) bytes += size.bytes;
  return bytes;
}

// Only pytorch_model.bin may stand in shards: nobody looks for those of model.pt.
std::vector<Shard> split(const std::vector<TensorSize>& sizes, const WeightForm& form) {
  if (form.safetensors) return split_into_shards(sizes, form.max_shard_size, "model", ".safetensors");
  const bool plain = !form.transformers && total_of(sizes) <= form.max_shard_size;
  return plain ? split_into_shards(sizes, form.max_shard_size, "model", ".pt")
               : split_into_shards(sizes, form.max_shard_size, "pytorch_model", ".bin");
}

}  // namespace

void ByteMeter::add(uint64_t bytes) {
  done_ += bytes;
  if (progress_ && !progress_(done_, total_)) fail(ErrorKind::cancelled, "interrupted");
}

uint64_t bytes_to_write(const TensorList& tensors, const WeightForm& form) {
  return total_of(sizes_of(tensors, form));
}

std::vector<std::string> write_weights(const std::filesystem::path& directory, const TensorList& tensors,
                                       const WeightForm& form, ByteMeter& meter) {
  const std::vector<Shard> shards = split(sizes_of(tensors, form), form);
  const TensorMap by_name(tensors.begin(), tensors.end());
  std::vector<std::string> names;
  for (const Shard& shard : shards) {
    write_shard(directory / shard.file, by_name, shard, form, meter);
    names.push_back(shard.file);
  }
  if (shards.size() > 1) {
    const char* index = form.safetensors ? kSafetensorsIndex : kTorchBinIndex;
    write_index(directory / index, shards, form.parameters);
  }
  return names;
}

void write_weights_file(const std::filesystem::path& path, const TensorList& tensors, const WeightForm& form,
                        ByteMeter& meter) {
  Shard all;
  for (const TensorSize& size : sizes_of(tensors, form)) {
    all.tensors.push_back(size.name);
    all.bytes += size.bytes;
  }
  write_shard(path, {tensors.begin(), tensors.end()}, all, form, meter);
}

}  // namespace bdh
