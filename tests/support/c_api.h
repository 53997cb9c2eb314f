// A small model and a session of it through the C API, and reads of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bdh/bdh_c.h"
#include "tests/support/temporary.h"

namespace bdh::test {

struct LoadedInC {
  TemporaryDirectory directory;
  bdh_model* model = nullptr;
  bdh_session* session = nullptr;

  LoadedInC();
  ~LoadedInC();
  LoadedInC(const LoadedInC&) = delete;
  LoadedInC& operator=(const LoadedInC&) = delete;
};

/// Whether the last error has that part.
bool says(const char* part);

/// The logits after the last token.
std::vector<float> read_in_c(bdh_session* session, const std::vector<int32_t>& tokens);

int64_t position_of(const bdh_session* session);

/// A bdh_text_callback that appends to a std::string.
int append_text(void* text, const char* piece, size_t length);

/// The model's defaults, with text appended to `text`.
bdh_generation_options options_in_c(const bdh_model* model, std::string* text = nullptr);

bdh_status generate_in_c(bdh_session* session, const std::string& prompt,
                         const bdh_generation_options* options, bdh_generation_result* result = nullptr);

}  // namespace bdh::test
