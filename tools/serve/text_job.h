// TextJob: what one request for texts is about, from its query to what came of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/service.h"
#include "tools/serve/texts.h"
#include "tools/serve/unix_time.h"

namespace bdh::tools {

/// A text as it is told to the client, whole or so far.
struct Choice {
  size_t index = 0;
  std::string text;
  std::vector<TokenReport> tokens;
  std::string finish;  // "": not yet
  std::string state;
};

/// What one request is about, while it is answered.
struct TextJob {
  ServedModelPointer served;
  TextQuery query;
  std::string id;
  int64_t created = unix_time();
  std::vector<std::string> prompts;  // as text
  std::unique_ptr<Texts> texts;
  std::vector<size_t> offsets;  // of each text: characters that were told
  int64_t prompt_tokens = 0, text_tokens = 0, cached_tokens = 0;
};

/// Of UTF-8.
size_t characters(std::string_view text);

/// What a query that says nothing asks for.
GenerationConfig default_config(const ServedModel& served);
/// Sees to it that the query makes sense as a whole, and has a seed. Throws ApiError(400).
void complete(TextQuery& query);
/// Submits the texts. Throws ApiError, and what Scheduler::submit throws.
void begin(Service& service, const HttpRequest& request, TextJob& job);
/// What a piece tells; the last one of a text counts it and keeps its state.
Choice choice_of(Service& service, TextJob& job, TextPiece piece);
/// Waits for all texts, whole.
std::vector<Choice> all_choices(Service& service, TextJob& job);

}  // namespace bdh::tools
