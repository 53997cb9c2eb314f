// Generation: prompts in, text out, as a stream or whole. Knows sessions, tokenizers and samplers; knows nothing of files.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/model/session.h"
#include "bdh/text/sampler.h"
#include "bdh/text/tokenizer.h"

namespace bdh {

/// What generation_config.json holds, and what a call may override.
struct GenerationConfig {
  int64_t max_new_tokens = 100;
  SamplingOptions sampling;
  std::vector<std::string> stop;  // text ends before the first of these
  Json::Object extra;             // keys that are not ours, kept

  void validate() const;
  /// Missing keys take the defaults above. `source` names the file in errors. Throws Error(bad_file).
  static GenerationConfig from_json(const Json& json, std::string_view source);
  Json to_json() const;
};

enum class FinishReason : uint8_t { length, eos, stop, cancelled };
std::string_view name_of(FinishReason reason);

struct GeneratedText {
  std::string text;                  // without the prompt and without the stop string
  std::vector<int32_t> tokens;       // every token generated, those of a stop string too
  int64_t prompt_tokens = 0;
  FinishReason finish = FinishReason::length;
};

struct GenerationResult {
  std::vector<GeneratedText> texts;  // one for each prompt, in order
  double prefill_seconds = 0;
  double decode_seconds = 0;
  int64_t prefill_tokens = 0;        // over all prompts
  int64_t decode_tokens = 0;         // tokens read after the prompts, over all prompts
  std::vector<LayerActivity> activity;  // of decoding
};

struct GenerationCallbacks {
  /// Text of prompt `index` as it becomes certain: whole UTF-8 characters, nothing that may yet turn out to be a
  /// stop string. Returning false ends generation as cancelled.
  std::function<bool(size_t index, std::string_view text)> on_text;
  /// While prompts are read: tokens done and in all. Returning false cancels.
  std::function<bool(int64_t done, int64_t total)> on_prefill;
};

/// Continues sessions with prompts read into them, all as one batch; sessions[i] afterwards has read the prompt and every
/// generated token but the last. An empty prompt is an Error(invalid_argument) for a session that has read nothing.
/// Prompt i samples with seed config.sampling.seed + i.
GenerationResult generate(std::span<Session* const> sessions, const Tokenizer& tokenizer,
                          std::span<const std::string> prompts, const GenerationConfig& config,
                          const GenerationCallbacks& callbacks = {}, const ReadOptions& read_options = {});

/// Holds back the bytes of an unfinished UTF-8 character.
class Utf8Stream {
 public:
  /// Appends bytes; returns what is complete. Bytes that can never become valid pass through as U+FFFD.
  std::string push(std::string_view bytes);
  /// What is left at the end, as U+FFFD when incomplete.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace bdh
