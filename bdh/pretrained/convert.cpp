// Weights from one form to another, without a model around them.
#include "bdh/pretrained/convert.h"

#include <cstring>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/weights.h"

namespace bdh {
namespace {

Tensor derived_frequencies(const Shape& shape) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, shape, &data);
  const std::vector<float> values = rotation_frequencies(tensor.numel());
  std::memcpy(data, values.data(), values.size() * sizeof(float));
  return tensor;
}

TensorMap with_plain_names(const TensorMap& tensors, const std::string& source) {
  TensorMap plain;
  for (const auto& [name, tensor] : tensors) {
    if (plain.emplace(std::string(plain_name(name)), tensor).second) continue;
    fail(ErrorKind::bad_file, source, ": tensor ", printable(plain_name(name)),
         " stands more than once, with and without prefix");
  }
  return plain;
}

void complete_frequencies(TensorMap& tensors) {
  const auto found = tensors.find("attn.freqs");
  const auto encoder = std::find_if(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.first == "encoder" || tensor.first == "encoder.0";
  });
  if (found != tensors.end()) {
    if (found->second.dtype != DType::f32) found->second = derived_frequencies(found->second.shape);
  } else if (encoder != tensors.end() && encoder->second.shape.size() == 3) {
    tensors["attn.freqs"] = derived_frequencies({1, 1, 1, encoder->second.shape[2]});
  }
}

}  // namespace

void convert_weights(const WeightFiles& from, const std::filesystem::path& to, WeightForm form,
                     const ByteProgress& progress) {
  TensorMap tensors = with_plain_names(from.state_dict(), from.source.string());
  complete_frequencies(tensors);
  const TensorList list(tensors.begin(), tensors.end());
  form.safetensors = to.extension() == ".safetensors";
  const Metadata found = from.metadata();
  form.metadata.insert(found.begin(), found.end());
  form.metadata.insert({{"format", "pt"}});
  ByteMeter meter(progress, bytes_to_write(list, form));
  write_weights_file(to, list, form, meter);
}

void convert_torch_to_safetensors(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (to.extension() != ".safetensors")
    fail(ErrorKind::invalid_argument, "'", to.string(), "' must end in .safetensors");
  convert_weights(open_weights_file(from), to);
}

}  // namespace bdh
