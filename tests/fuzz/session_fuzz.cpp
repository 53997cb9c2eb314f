// Any bytes as a kept session: refused in words, or the session goes on from it.
#include "bdh/base/error.h"
#include "bdh/model/session_file.h"
#include "kernels/backends.h"

namespace {

bdh::Config small_config() {
  bdh::Config config;
  config.n_layer = 1;
  config.n_embd = 4;
  config.n_head = 1;
  config.mlp_internal_dim_multiplier = 4;
  config.vocab_size = 8;
  return config;
}

const std::shared_ptr<const bdh::Weights>& weights() {
  static const auto made = std::make_shared<const bdh::Weights>(
      small_config(), bdh::random_state_dict(small_config(), 1), bdh::make_backend("cpu", 1));
  return made;
}

void go_on(bdh::SavedSession saved) {
  saved.model.clear();
  saved.dtype.reset();
  bdh::Session session(weights(), {.horizon = saved.horizon});
  session.restore(saved);
  const std::vector<int32_t> tokens{1, 2, 3};
  session.read(tokens);
  for (const int32_t token : tokens) session.read({&token, 1});
  bdh::session_bytes(session.save());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    go_on(bdh::read_session(std::as_bytes(std::span(data, size)), "input"));
  } catch (const bdh::Error&) {
  }
  return 0;
}
