// The options of generate and chat that keep a session.
#pragma once

#include <optional>
#include <string>

#include "bdh/model/session.h"
#include "bdh/text/generation_config.h"
#include "bdh/text/prompt_cache.h"
#include "tools/command.h"

namespace bdh::tools {

struct SessionFlags {
  std::string load, save;     // files; "": none
  std::string dtype = "f32";  // of the saved state
  std::string form = "state";
  std::string cache;  // directory; "": none
  int64_t cache_bytes = int64_t{4} << 30;
  bool drafts = false;
};

/// --load-session, --save-session, --session-form, --session-dtype, --prompt-cache, --prompt-cache-bytes,
/// --drafts.
void add_session_options(Command& command, SessionFlags& flags);

/// The session that was kept in flags.load, or a new one; and where its text stands. config receives what
/// goes on from there, unless the command line says otherwise: horizon_given, seed_given.
Session begin_session(const Model& model, const CommonOptions& common, const SessionFlags& flags,
                      GenerationConfig& config, bool horizon_given, bool seed_given, Continuation& text);

/// The cache of prompts, where it is asked for; its warnings go to stderr.
std::optional<PromptCache> prompt_cache(const SessionFlags& flags);

/// Writes flags.save, where it is given.
void keep_session(const Session& session, const Continuation& text, const SessionFlags& flags);

}  // namespace bdh::tools
