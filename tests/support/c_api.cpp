// A small model and a session of it through the C API, and reads of it.
#include "tests/support/c_api.h"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/support/models.h"

namespace bdh::test {

LoadedInC::LoadedInC() {
  write_model(directory.path());
  REQUIRE(bdh_model_load(directory.path().c_str(), nullptr, &model) == BDH_OK);
  REQUIRE(bdh_session_new(model, &session) == BDH_OK);
}

LoadedInC::~LoadedInC() {
  bdh_session_free(session);
  bdh_model_free(model);
}

bool says(const char* part) { return std::strstr(bdh_last_error(), part) != nullptr; }

std::vector<float> read_in_c(bdh_session* session, const std::vector<int32_t>& tokens) {
  std::vector<float> logits(256);
  REQUIRE(bdh_session_read(session, tokens.data(), tokens.size(), BDH_LOGITS_LAST, logits.data(),
                           logits.size()) == BDH_OK);
  return logits;
}

int64_t position_of(const bdh_session* session) {
  int64_t position = -1;
  REQUIRE(bdh_session_get_position(session, &position) == BDH_OK);
  return position;
}

int append_text(void* text, const char* piece, size_t length) {
  static_cast<std::string*>(text)->append(piece, length);
  return 1;
}

bdh_generation_options options_in_c(const bdh_model* model, std::string* text) {
  bdh_generation_options options;
  REQUIRE(bdh_generation_options_defaults(model, &options, sizeof options) == BDH_OK);
  if (text) options.on_text = append_text;
  options.user = text;
  return options;
}

bdh_status generate_in_c(bdh_session* session, const std::string& prompt,
                         const bdh_generation_options* options, bdh_generation_result* result) {
  return bdh_generate(session, prompt.data(), prompt.size(), options, result, result ? sizeof *result : 0);
}

}  // namespace bdh::test
