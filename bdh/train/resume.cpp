// A checkpoint's state and a run's, side by side.
#include "bdh/train/resume.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/train/options.h"

namespace bdh {

namespace {

using Lines = std::vector<std::string>;

constexpr size_t kDigitsShown = 12;

std::string joined(const Lines& lines) {
  std::string all;
  for (const std::string& line : lines) all += (all.empty() ? "" : "; ") + line;
  return all;
}

std::string change(std::string_view name, const Json& was, const Json& is) {
  return concat(name, " was ", was.dump(), ", is ", is.dump());
}

// Both, where both are known and they differ.
template <class Use>
void for_changed(const Json& saved, const Json& now, std::string_view key, const Use& use) {
  const Json *was = saved.find(key), *is = now.find(key);
  if (was && is && *was != *is) use(*was, *is);
}

Lines config_changes(const Json& saved, const Json& now) {
  Lines lines;
  for (const char* key : {"n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier", "vocab_size"})
    for_changed(saved, now, key,
                [&](const Json& was, const Json& is) { lines.push_back(change(key, was, is)); });
  const auto tied = [](const Json& config) {
    const Json* found = config.find("tie_layers");
    return found == nullptr || *found == Json(true);
  };
  if (saved.is_object() && tied(saved) != tied(now))
    lines.push_back(change("tie_layers", tied(saved), tied(now)));
  return lines;
}

Lines option_changes(const Json& saved, const Json& now, bool fixed) {
  Lines lines;
  for (const TrainOption& option : train_options()) {
    if (option.fixed != fixed) continue;
    for_changed(saved, now, option.name,
                [&](const Json& was, const Json& is) { lines.push_back(change(option.name, was, is)); });
  }
  return lines;
}

bool differ(const std::string& was, const std::string& is) {
  return !was.empty() && !is.empty() && was != is;
}

std::string hash_text(const std::string& hash) {
  return hash.empty() ? "none" : hash.substr(0, kDigitsShown);
}

// A line where they differ.
Lines hash_change(std::string_view what, const std::string& was, const std::string& is) {
  if (!differ(was, is)) return {};
  return {concat(what, " (", was.substr(0, kDigitsShown), " was, ", is.substr(0, kDigitsShown), " is)")};
}

void append(Lines& to, Lines lines) { to.insert(to.end(), lines.begin(), lines.end()); }

Lines data_changes(const RunState& saved, const RunState& now) {
  Lines lines = hash_change("another training text", saved.data_hash, now.data_hash);
  if (lines.empty()) lines = hash_change("another order of the text", saved.order_hash, now.order_hash);
  append(lines, hash_change("another validation text", saved.validation_hash, now.validation_hash));
  append(lines, hash_change("another tokenizer", saved.tokenizer_hash, now.tokenizer_hash));
  return lines;
}

bool judged_alike(const Json& saved, const Json& now) {
  const auto same = [&](std::string_view key) {
    return saved.find(key) && *saved.find(key) == *now.find(key);
  };
  return same("metric") && same("greater_is_better");
}

}  // namespace

RunChanges compare_runs(const RunState& saved, const RunState& now, bool allow_changed_data) {
  Lines refused = config_changes(saved.config, now.config);
  append(refused, option_changes(saved.options, now.options, true));
  if (saved.base_hash != now.base_hash)
    refused.push_back(concat("the adapter's base model (", hash_text(saved.base_hash), " was, ",
                             hash_text(now.base_hash), " is)"));
  if (!refused.empty()) {
    fail(ErrorKind::invalid_argument, "the checkpoint is of another run: ", joined(refused),
         "; give the old values, or start a new run from its weights");
  }
  const Lines data = data_changes(saved, now);
  if (!data.empty() && !allow_changed_data) {
    fail(ErrorKind::invalid_argument, "the checkpoint was trained on other data: ", joined(data),
         "; give the old data, or go on with the new (--allow-changed-data)");
  }
  RunChanges changes{differ(saved.data_hash, now.data_hash) || differ(saved.order_hash, now.order_hash) ||
                         differ(saved.tokenizer_hash, now.tokenizer_hash),
                     differ(saved.validation_hash, now.validation_hash),
                     {}};
  if (!data.empty())
    changes.warnings.push_back(concat("GOING ON WITH OTHER DATA, as allowed: ", joined(data),
                                      "; losses before and after do not compare"));
  const Lines options = option_changes(saved.options, now.options, false);
  if (!options.empty())
    changes.warnings.push_back(concat("options differ from the checkpoint's: ", joined(options)));
  return changes;
}

RunState continued_state(const RunState& saved, const RunState& now, const RunChanges& changes) {
  RunState next = saved;
  if (saved.options.is_null()) next.loss_scale = now.loss_scale;
  if (!saved.history.is_array()) next.history = Json::Array{};
  if (!saved.statistics.is_object()) next.statistics = now.statistics;
  if (changes.validation || !judged_alike(saved.options, now.options)) {
    next.best.reset();
    next.stale_validations = 0;
  }
  next.seed = now.seed;
  next.data_hash = now.data_hash;
  next.validation_hash = now.validation_hash;
  next.tokenizer_hash = now.tokenizer_hash;
  next.order_hash = now.order_hash;
  next.schedule = now.schedule;
  next.options = now.options;
  next.config = now.config;
  next.carried_position = -1;  // the carried states themselves know
  return next;
}

}  // namespace bdh
