// Weights from one form to another, without a model around them.
#include "bdh/pretrained/convert.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/model/frequencies.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/dialects/importer.h"
#include "bdh/pretrained/dialects/rearrange.h"

namespace bdh {
namespace {

/// Frequencies as they run: derived where they are missing, restored where they are rounded.
void complete_frequencies(TensorMap& tensors) {
  const auto found = tensors.find("attn.freqs");
  auto encoder = tensors.find("encoder");
  if (encoder == tensors.end()) encoder = tensors.find("encoder.0");
  if (found != tensors.end() && is_weight_dtype(found->second.dtype)) {
    found->second = tensor_of(stored_frequencies(found->second), found->second.shape);
  } else if (found == tensors.end() && encoder != tensors.end() && encoder->second.shape.size() == 3) {
    const int64_t neurons = encoder->second.shape[2];
    tensors["attn.freqs"] = tensor_of(rotation_frequencies(neurons), {1, 1, 1, neurons});
  }
}

/// What a checkpoint says of itself, or nothing.
Json config_in(const WeightFiles& files) {
  return with_reference_keys(own_config(files.values(), files.source.string()).values);
}

/// Without a config.json beside it a file of quantized weights is of no use.
void refuse_quantized(const TensorMap& tensors, const std::string& source) {
  const auto scales = std::find_if(tensors.begin(), tensors.end(),
                                   [](const auto& tensor) { return tensor.first.ends_with(kScales); });
  if (scales == tensors.end()) return;
  fail(ErrorKind::unsupported, source, ": tensor '", scales->first, "' says that the weights are quantized, ",
       "which needs a config.json beside them: convert to a directory, or to floats (--dequantize)");
}

void refuse_packed(const WeightFiles& files) {
  if (!files.packed()) return;
  fail(ErrorKind::unsupported, files.source.string(),
       ": the weights are packed, which needs the config.json ",
       "beside them: convert the directory that holds both");
}

}  // namespace

void convert_weights(const WeightFiles& from, const std::filesystem::path& to, WeightForm form,
                     const ByteProgress& progress) {
  refuse_packed(from);
  TensorMap tensors = import_tensors(from, config_in(from)).tensors;
  refuse_quantized(tensors, from.source.string());
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
