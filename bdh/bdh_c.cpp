// The C API over bdh.h: pointers and sizes in, exceptions turned into statuses. Decides nothing itself.
#include "bdh/bdh_c.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/version.h"
#include "bdh/bdh.h"

struct bdh_model {
  std::shared_ptr<const bdh::Model> model;
};

struct bdh_session {
  std::shared_ptr<const bdh::Model> model;
  bdh::Session session;
  bool own_horizon = false;  // bdh_session_set_horizon was called
};

namespace {

thread_local std::string last_error;

bdh_status failed(bdh_status status, const char* message) {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

bdh_status status_of(bdh::ErrorKind kind) {
  switch (kind) {
    case bdh::ErrorKind::invalid_argument:
      return BDH_INVALID_ARGUMENT;
    case bdh::ErrorKind::not_found:
      return BDH_NOT_FOUND;
    case bdh::ErrorKind::io:
      return BDH_IO;
    case bdh::ErrorKind::bad_file:
      return BDH_BAD_FILE;
    case bdh::ErrorKind::unsupported:
      return BDH_UNSUPPORTED;
    case bdh::ErrorKind::out_of_memory:
      return BDH_OUT_OF_MEMORY;
    case bdh::ErrorKind::cancelled:
      return BDH_CANCELLED;
  }
  return BDH_INTERNAL;
}

// Runs `action`; no exception leaves it.
template <class Action>
bdh_status guarded(const Action& action) {
  try {
    action();
    return BDH_OK;
  } catch (const bdh::Error& error) {
    return failed(status_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(BDH_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return failed(BDH_INTERNAL, error.what());
  } catch (...) {
    return failed(BDH_INTERNAL, "an unknown failure");
  }
}

void require(const void* pointer, const char* name) {
  if (!pointer) bdh::fail(bdh::ErrorKind::invalid_argument, name, " must not be NULL");
}

bdh::DType dtype_named(std::string_view name) {
  for (const bdh::DType dtype : {bdh::DType::f32, bdh::DType::bf16, bdh::DType::f16}) {
    std::string lower(bdh::name_of(dtype));
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
      return c == 'B' ? 'b' : c == 'F' ? 'f' : c;
    });
    if (lower == name) return dtype;
  }
  bdh::fail(bdh::ErrorKind::invalid_argument, "dtype must be f32, bf16 or f16, not '", name, "'");
}

bdh::LoadOptions load_options(const bdh_load_options* given) {
  bdh::LoadOptions options;
  if (!given) return options;
  if (given->device) options.device = given->device;
  if (given->dtype) options.dtype = dtype_named(given->dtype);
  options.threads = given->threads;
  return options;
}

const bdh::Tokenizer& tokenizer_of(const bdh::Model& model) {
  if (model.tokenizer) return *model.tokenizer;
  bdh::fail(bdh::ErrorKind::unsupported, "the model has no tokenizer that this build reads; use tokens");
}

bdh::GenerationConfig generation_config(const bdh::Model& model, const bdh_generation_options* given) {
  bdh::GenerationConfig config = model.generation;
  config.num_return_sequences = 1;
  if (!given) return config;
  if (given->max_new_tokens != config.max_new_tokens) config.max_length = 0;
  config.max_new_tokens = given->max_new_tokens;
  bdh::SamplingOptions& sampling = config.sampling;
  sampling.do_sample = given->do_sample != 0;
  sampling.temperature = given->temperature;
  sampling.top_k = given->top_k;
  sampling.top_p = given->top_p;
  sampling.repetition_penalty = given->repetition_penalty;
  sampling.seed = given->seed;
  return config;
}

template <class Element>
void copy_out(std::span<const Element> from, Element* to, size_t capacity, size_t* count) {
  require(count, "the count");
  *count = from.size();
  if (capacity == 0) return;
  require(to, "the output");
  std::copy_n(from.begin(), std::min(capacity, from.size()), to);
}

}  // namespace

const char* bdh_last_error(void) { return last_error.c_str(); }

const char* bdh_version(void) { return bdh::kVersion; }

bdh_status bdh_model_load(const char* directory, const bdh_load_options* options, bdh_model** model) {
  return guarded([&] {
    require(directory, "directory");
    require(model, "model");
    *model = nullptr;
    *model = new bdh_model{
        std::make_shared<const bdh::Model>(bdh::Model::from_pretrained(directory, load_options(options)))};
  });
}

void bdh_model_free(bdh_model* model) { delete model; }

void bdh_model_get_info(const bdh_model* model, bdh_model_info* info) {
  const bdh::Config& config = model->model->config();
  *info = {config.n_layer,     config.n_embd,
           config.n_head,      config.mlp_internal_dim_multiplier,
           config.vocab_size,  config.neurons_per_head(),
           config.parameters()};
}

bdh_status bdh_encode(const bdh_model* model, const char* text, size_t length, int32_t* tokens,
                      size_t capacity, size_t* count) {
  return guarded([&] {
    require(model, "model");
    if (length > 0) require(text, "text");
    const std::vector<int32_t> encoded = tokenizer_of(*model->model).encode({text, length});
    copy_out(std::span(encoded), tokens, capacity, count);
  });
}

bdh_status bdh_decode(const bdh_model* model, const int32_t* tokens, size_t count, char* text,
                      size_t capacity, size_t* length) {
  return guarded([&] {
    require(model, "model");
    if (count > 0) require(tokens, "tokens");
    const std::string decoded = tokenizer_of(*model->model).decode({tokens, count});
    copy_out(std::span<const char>(decoded), text, capacity, length);
  });
}

bdh_status bdh_session_new(const bdh_model* model, bdh_session** session) {
  return guarded([&] {
    require(model, "model");
    require(session, "session");
    *session = nullptr;
    *session = new bdh_session{model->model, bdh::Session(model->model->weights), false};
  });
}

bdh_status bdh_session_clone(const bdh_session* session, bdh_session** copy) {
  return guarded([&] {
    require(session, "session");
    require(copy, "copy");
    *copy = nullptr;
    *copy = new bdh_session{session->model, session->session.clone(), session->own_horizon};
  });
}

void bdh_session_free(bdh_session* session) { delete session; }

bdh_status bdh_session_set_horizon(bdh_session* session, const float* horizon, size_t count) {
  return guarded([&] {
    require(session, "session");
    if (count > 0) require(horizon, "horizon");
    session->session.reset({.horizon = {horizon, horizon + count}});
    session->own_horizon = true;
  });
}

int64_t bdh_session_position(const bdh_session* session) { return session->session.position(); }

bdh_status bdh_session_reset(bdh_session* session) {
  return guarded([&] {
    require(session, "session");
    session->session.reset();
  });
}

bdh_status bdh_session_read(bdh_session* session, const int32_t* tokens, size_t count, float* logits) {
  return guarded([&] {
    require(session, "session");
    require(tokens, "tokens");
    const std::vector<float> values = session->session.read({tokens, count});
    if (logits) std::copy(values.begin(), values.end(), logits);
  });
}

bdh_status bdh_session_save(bdh_session* session, const char* path) {
  return guarded([&] {
    require(session, "session");
    require(path, "path");
    bdh::write_session(path, session->session.save());
  });
}

bdh_status bdh_session_restore(bdh_session* session, const char* path) {
  return guarded([&] {
    require(session, "session");
    require(path, "path");
    session->session.restore(bdh::read_session(std::filesystem::path(path)), path);
  });
}

bdh_status bdh_session_save_buffer(bdh_session* session, void* buffer, size_t capacity, size_t* size) {
  return guarded([&] {
    require(session, "session");
    const std::vector<std::byte> bytes = bdh::session_bytes(session->session.save());
    copy_out(std::span(bytes), static_cast<std::byte*>(buffer), capacity, size);
  });
}

bdh_status bdh_session_restore_buffer(bdh_session* session, const void* buffer, size_t size) {
  return guarded([&] {
    require(session, "session");
    require(buffer, "buffer");
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(buffer), size);
    session->session.restore(bdh::read_session(bytes, "the buffer"), "the buffer");
  });
}

void bdh_generation_defaults(const bdh_model* model, bdh_generation_options* options) {
  const bdh::GenerationConfig& config = model->model->generation;
  const bdh::SamplingOptions& sampling = config.sampling;
  *options = {config.max_new_tokens, sampling.do_sample ? 1 : 0,  sampling.temperature, sampling.top_k,
              sampling.top_p,        sampling.repetition_penalty, sampling.seed};
}

bdh_status bdh_generate(bdh_session* session, const char* prompt, const bdh_generation_options* options,
                        bdh_text_callback on_text, void* user) {
  return guarded([&] {
    require(session, "session");
    require(prompt, "prompt");
    const bdh::Model& model = *session->model;
    bdh::Session* const sessions[] = {&session->session};
    const std::string prompts[] = {prompt};
    bdh::GenerationCallbacks callbacks;
    if (on_text)
      callbacks.on_text = [&](size_t, std::string_view text) {
        return on_text(user, text.data(), text.size()) != 0;
      };
    bdh::GenerationConfig config = generation_config(model, options);
    if (session->own_horizon) config.horizon.clear();
    const bdh::GenerationResult result =
        bdh::generate(sessions, tokenizer_of(model), prompts, config, callbacks);
    if (result.texts[0].finish == bdh::FinishReason::cancelled)
      bdh::fail(bdh::ErrorKind::cancelled, "generation was stopped by its callback");
  });
}
