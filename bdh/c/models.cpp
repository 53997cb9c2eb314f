// The C API's devices and models: loaded from files or from memory, and what they say of themselves.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/memory.h"
#include "bdh/c/handles.h"
#include "bdh/pretrained/adapters/load_adapter.h"
#include "kernels/backends.h"

namespace {

using namespace bdh::c;
using bdh::ErrorKind;

bdh::LoadOptions load_options(const bdh_load_options* given) {
  bdh::LoadOptions options;
  if (!given) return options;
  require_size(given->size, sizeof *given, "bdh_load_options");
  if (given->device) options.device = given->device;
  if (given->dtype) {
    options.dtype = bdh::dtype_from_option(given->dtype);
    if (!options.dtype)
      bdh::fail(ErrorKind::invalid_argument, "dtype must be f32, bf16 or f16, not '", given->dtype, "'");
  }
  options.threads = given->threads;
  options.strict = given->strict != 0;
  options.verify = given->verify != 0;
  return options;
}

void warn(const std::vector<std::string>& warnings, const bdh_load_options* options) {
  if (!options || !options->on_warning) return;
  for (const std::string& warning : warnings) options->on_warning(options->user, warning.c_str());
}

void give_model(bdh::Model loaded, const bdh_load_options* options, bdh_model** model) {
  warn(loaded.warnings, options);
  *model = new bdh_model{std::make_shared<const bdh::Model>(std::move(loaded))};
}

std::shared_ptr<const void> owner_of(const bdh_model_buffers& buffers) {
  if (!buffers.release) return nullptr;
  return {buffers.weights, [release = buffers.release, user = buffers.user](const void*) { release(user); }};
}

std::string_view text_in(const char* text, size_t size, const char* name) {
  if (size == 0) return {};
  require(text, name);
  return {text, size};
}

bdh::ModelBytes model_bytes(const bdh_model_buffers& buffers, std::shared_ptr<const void> owner) {
  require(buffers.weights, "weights");
  bdh::ModelBytes bytes;
  bytes.weights = {static_cast<const std::byte*>(buffers.weights), buffers.weights_size};
  bytes.owner = std::move(owner);
  bytes.config = text_in(buffers.config, buffers.config_size, "config");
  bytes.generation_config =
      text_in(buffers.generation_config, buffers.generation_config_size, "generation_config");
  const std::string_view tokenizer = text_in(buffers.tokenizer, buffers.tokenizer_size, "tokenizer");
  if (!tokenizer.empty()) bytes.tokenizer[bdh::kTokenizerJsonKind] = tokenizer;
  return bytes;
}

template <size_t capacity>
void copy_closed(const std::string& from, char (&to)[capacity]) {
  std::snprintf(to, capacity, "%s", from.c_str());
}

bdh_model_info info_of(const bdh::Model& model) {
  const bdh::Config& config = model.config();
  bdh_model_info info{};
  info.n_layer = config.n_layer;
  info.n_embd = config.n_embd;
  info.n_head = config.n_head;
  info.mlp_internal_dim_multiplier = config.mlp_internal_dim_multiplier;
  info.vocab_size = config.vocab_size;
  info.neurons_per_head = config.neurons_per_head();
  info.parameters = config.parameters();
  info.bos_token = info.eos_token = -1;
  if (model.tokenizer) {
    const bdh::SpecialTokens special = model.tokenizer->special_tokens();
    info.tokenizer_vocab_size = model.tokenizer->vocab_size();
    info.bos_token = special.bos.value_or(-1);
    info.eos_token = special.eos.value_or(-1);
  }
  info.block_size = model.block_size().value_or(0);
  const auto float_bits = static_cast<int64_t>(8 * bdh::size_of(model.weights->dtype()));
  info.weight_bits = config.weight_bits != 0 ? config.weight_bits : float_bits;
  info.packed = model.packed ? 1 : 0;
  copy_closed(std::string(model.weights->dtype_name()), info.dtype);
  return info;
}

std::string metadata_json(const bdh::Metadata& metadata) {
  bdh::Json json = bdh::Json::Object{};
  for (const auto& [key, value] : metadata) json.set(key, value);
  return json.dump();
}

bdh::AppliedAdapter adapter_of(const bdh_adapter& given, const bdh::Model& model) {
  require(given.path, "an adapter's path");
  return {bdh::load_adapter(given.path, model.config()), given.scale};
}

template <class Make>
bdh_status with_adapters(const Make& make, const bdh_model* model, const bdh_adapter* adapters, size_t count,
                         bdh_model** made) {
  return guarded([&] {
    require(model, "model");
    require(made, "the new model");
    *made = nullptr;
    if (count > 0) require(adapters, "adapters");
    std::vector<bdh::AppliedAdapter> applied;
    for (size_t i = 0; i < count; ++i) applied.push_back(adapter_of(adapters[i], *model->model));
    give_model(make(*model->model, applied), nullptr, made);
  });
}

size_t rounded_session(const bdh::Model& model) {
  try {
    const bdh::Weights& weights = *model.weights;
    return weights.backend()
        .memory(model.config().dimensions(), weights.dtype(), 1, bdh::DType::bf16)
        .session;
  } catch (const bdh::Error& error) {
    if (error.kind() != bdh::ErrorKind::unsupported) throw;
    return 0;
  }
}

bdh_memory_info memory_of(const bdh::Model& model, size_t tokens) {
  const bdh::Weights& weights = *model.weights;
  const auto most = static_cast<size_t>(weights.backend().prefill_tokens());
  const auto read = static_cast<int64_t>(std::clamp<size_t>(tokens, 1, most));
  const bdh::MemoryNeed need = weights.backend().memory(model.config().dimensions(), weights.dtype(), read);
  return {need.weights, need.session, need.working, bdh::peak_resident_memory(), rounded_session(model)};
}

}  // namespace

bdh_status bdh_device_count(size_t* count) {
  return guarded([&] {
    require(count, "count");
    *count = 1 + static_cast<size_t>(bdh::usable_gpus());
  });
}

bdh_status bdh_device_get_info(size_t index, bdh_device_info* info, size_t info_size) {
  return guarded([&] {
    const auto devices = 1 + static_cast<size_t>(bdh::usable_gpus());
    if (index >= devices)
      bdh::fail(ErrorKind::not_found, "device ", index, " is not there: there are ", devices);
    const std::string name = index == 0 ? "cpu" : bdh::concat("cuda:", index - 1);
    bdh_device_info device{};
    copy_closed(name, device.name);
    copy_closed(bdh::make_backend(name, 0)->name(), device.description);
    give(device, info, info_size, "bdh_device_info");
  });
}

bdh_status bdh_load_options_defaults(bdh_load_options* options, size_t size) {
  return guarded([&] {
    bdh_load_options defaults{};
    defaults.size = sizeof defaults;
    give(defaults, options, size, "bdh_load_options");
  });
}

bdh_status bdh_model_load(const char* path, const bdh_load_options* options, bdh_model** model) {
  return guarded([&] {
    require(model, "model");
    *model = nullptr;
    require(path, "path");
    give_model(bdh::Model::from_pretrained(path, load_options(options)), options, model);
  });
}

bdh_status bdh_model_buffers_defaults(bdh_model_buffers* buffers, size_t size) {
  return guarded([&] {
    bdh_model_buffers defaults{};
    defaults.size = sizeof defaults;
    give(defaults, buffers, size, "bdh_model_buffers");
  });
}

bdh_status bdh_model_load_buffers(const bdh_model_buffers* buffers, const bdh_load_options* options,
                                  bdh_model** model) {
  return guarded([&] {
    require(buffers, "buffers");
    require_size(buffers->size, sizeof *buffers, "bdh_model_buffers");
    std::shared_ptr<const void> owner = owner_of(*buffers);
    require(model, "model");
    *model = nullptr;
    const bdh::ModelBytes bytes = model_bytes(*buffers, std::move(owner));
    give_model(bdh::Model::from_memory(bytes, load_options(options)), options, model);
  });
}

bdh_status bdh_model_merge_adapters(const bdh_model* model, const bdh_adapter* adapters, size_t count,
                                    bdh_model** merged) {
  return with_adapters(bdh::merged, model, adapters, count, merged);
}

bdh_status bdh_model_apply_adapters(const bdh_model* model, const bdh_adapter* adapters, size_t count,
                                    bdh_model** adapted) {
  return with_adapters(bdh::adapted, model, adapters, count, adapted);
}

void bdh_model_free(bdh_model* model) { delete model; }

bdh_status bdh_model_get_info(const bdh_model* model, bdh_model_info* info, size_t info_size) {
  return guarded([&] {
    require(model, "model");
    give(info_of(*model->model), info, info_size, "bdh_model_info");
  });
}

bdh_status bdh_model_config(const bdh_model* model, char* text, size_t capacity, size_t* length) {
  return guarded([&] {
    require(model, "model");
    copy_text(model->model->config().to_json().dump(2, bdh::NonFinite::python), text, capacity, length);
  });
}

bdh_status bdh_model_metadata(const bdh_model* model, char* text, size_t capacity, size_t* length) {
  return guarded([&] {
    require(model, "model");
    copy_text(metadata_json(model->model->metadata), text, capacity, length);
  });
}

bdh_status bdh_model_metadata_value(const bdh_model* model, const char* key, char* text, size_t capacity,
                                    size_t* length) {
  return guarded([&] {
    require(model, "model");
    require(key, "key");
    const auto found = model->model->metadata.find(key);
    if (found == model->model->metadata.end())
      bdh::fail(ErrorKind::not_found, "the weights files' metadata has no '", key, "'");
    copy_text(found->second, text, capacity, length);
  });
}

bdh_status bdh_model_get_memory(const bdh_model* model, size_t tokens, bdh_memory_info* info,
                                size_t info_size) {
  return guarded([&] {
    require(model, "model");
    give(memory_of(*model->model, tokens), info, info_size, "bdh_memory_info");
  });
}
