// Dialect: how one of OpenAI's two APIs asks for texts and tells them.
#pragma once

#include "bdh/base/json.h"
#include "tools/serve/text_job.h"

namespace bdh::tools {

struct Dialect {
  const char* prefix;        // of ids
  const char* object;        // what a reply is called,
  const char* chunk_object;  // and an event of a stream
  const Parameters<TextQuery>& (*parameters)(const Service& service);
  void (*set_defaults)(const Service& service, TextQuery& query);
  Json (*choice)(TextJob& job, const Choice& choice);
  Json (*delta)(TextJob& job, const Choice& choice, bool is_first);
  bool begins_with_role;  // a stream says first who speaks
};

extern const Dialect kCompletions, kChat;

}  // namespace bdh::tools
