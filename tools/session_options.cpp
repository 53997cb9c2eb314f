// The options of generate and chat that keep a session.
#include "tools/session_options.h"

#include <limits>

#include "bdh/model/session_file.h"

namespace bdh::tools {

void add_session_options(Command& command, SessionFlags& flags) {
  const std::string group = "Sessions";
  command.option("--load-session", &flags.load, "go on from a kept session; the prompt may then be left out")
      .group(group);
  command.option("--save-session", &flags.save, "keep the session in this file, for --load-session")
      .group(group);
  command
      .option("--session-dtype", &flags.dtype,
              "of the kept state: f32 goes on with the same bits, bf16 takes half the room; default f32")
      .choices({"f32", "bf16"})
      .group(group);
  command
      .option("--session-form", &flags.form,
              "state: one size, however long the text; tokens: smaller for short texts; auto: the smaller "
              "one; default "
              "state")
      .choices({"state", "tokens", "auto"})
      .group(group);
  const Option cache =
      command
          .option("--prompt-cache", &flags.cache,
                  "a directory: a prompt that begins as an earlier one did is read from where they part")
          .group(group);
  command.option("--prompt-cache-bytes", &flags.cache_bytes, "keep at most so many there; default 4 GiB")
      .range(0, std::numeric_limits<int64_t>::max())
      .needs(cache)
      .group(group);
  command
      .flag("--drafts", &flags.drafts,
            "guess what comes next from the text itself, and keep what the draws confirm: the same text")
      .group(group);
}

Session begin_session(const Model& model, const CommonOptions& common, const SessionFlags& flags,
                      GenerationConfig& config, bool horizon_given, bool seed_given, Continuation& text) {
  SessionOptions options = session_options("", common);
  options.horizon = config.horizon;
  if (flags.load.empty()) return Session(model.weights, options);
  const SavedSession saved = read_session(std::filesystem::path(flags.load));
  if (!horizon_given) options.horizon = config.horizon = saved.horizon;
  Session session(model.weights, options);
  session.restore(saved, flags.load);
  text = saved.text;
  if (seed_given) {
    text.seed.reset();
    text.step = 0;
  }
  if (text.seed) config.sampling.seed = *text.seed;
  return session;
}

std::optional<PromptCache> prompt_cache(const SessionFlags& flags) {
  if (flags.cache.empty()) return {};
  return PromptCache(flags.cache, static_cast<uint64_t>(flags.cache_bytes),
                     [](const std::string& problem) { warn(problem); });
}

void keep_session(const Session& session, const Continuation& text, const SessionFlags& flags) {
  if (flags.save.empty()) return;
  const KeptForm form = flags.form == "tokens" ? KeptForm::tokens
                        : flags.form == "auto" ? KeptForm::automatic
                                               : KeptForm::state;
  SavedSession saved = session.save(form, flags.dtype == "bf16" ? DType::bf16 : DType::f32);
  saved.text = text;
  write_session(flags.save, saved);
}

}  // namespace bdh::tools
