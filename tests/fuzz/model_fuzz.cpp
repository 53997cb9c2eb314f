// Any bytes as config.json, a zero and model.safetensors, quantized and packed ones among them: refused in
// words, or a session reads tokens, and the weights are written packed and not, and read again the same.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/model/packed_layout.h"
#include "bdh/pretrained/model.h"

namespace {

constexpr int64_t kMostState = 1 << 20, kMostLayers = 64, kMostVocabulary = 4096;

bdh::LoadOptions on_cpu() {
  bdh::LoadOptions options;
  options.device = "cpu";
  options.threads = 1;
  return options;
}

/// Weights that begin aligned as a mapped file's, and end where a read past them is seen.
struct Aligned {
  std::shared_ptr<std::byte> memory;
  std::span<const std::byte> bytes;

  explicit Aligned(std::span<const std::byte> from) {
    void* start = nullptr;
    if (posix_memalign(&start, bdh::kPackedAlignment, std::max<size_t>(from.size(), 1)) != 0) abort();
    memory = {static_cast<std::byte*>(start), std::free};
    std::copy(from.begin(), from.end(), memory.get());
    bytes = {memory.get(), from.size()};
  }
};

void run(const bdh::Model& model) {
  const bdh::Config& config = model.config();
  if (config.state_bytes() > kMostState || config.n_layer > kMostLayers ||
      config.vocab_size > kMostVocabulary)
    return;
  bdh::Session session(model.weights);
  const std::vector<int32_t> tokens(20, 0);
  session.read(tokens);
  session.read({tokens.data(), 1});
}

/// The weights as bytes of a file, packed or not, and back.
void write_again(const bdh::Model& model, bool packed) {
  const bdh::Config& config = model.config();
  const bdh::TensorMap tensors = model.weights->state_dict();
  const auto bytes =
      packed ? bdh::safetensors_bytes(bdh::packed_state_dict(config, tensors),
                                      {{bdh::kLayoutKey, bdh::kPackedLayout}}, bdh::kPackedAlignment)
             : bdh::safetensors_bytes(tensors, {});
  bdh::ModelBytes files;
  const std::string written = bdh::with_packed(config, packed).to_json().dump();
  files.weights = bytes;
  files.config = written;
  if (bdh::Model::from_memory(files, on_cpu()).weights->hash() != model.weights->hash()) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(text.find('\0'), size);
  const Aligned weights(std::as_bytes(std::span(data, size)).subspan(std::min(end + 1, size)));
  bdh::ModelBytes files;
  files.weights = weights.bytes;
  files.config = text.substr(0, end);
  try {
    const bdh::Model model = bdh::Model::from_memory(files, on_cpu());
    write_again(model, true);
    write_again(model, false);
    run(model);
  } catch (const bdh::Error&) {
  }
  return 0;
}
