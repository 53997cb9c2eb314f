// The table of training options, and what is made of it.
#include "bdh/train/options.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/horizon.h"

namespace bdh {

namespace {

constexpr double kAny = std::numeric_limits<double>::max();
constexpr double kBelowOne = 1 - std::numeric_limits<double>::epsilon() / 2;
constexpr double kMostSeed = 0x1p63;
constexpr double kMostRank = 65536;
constexpr const char* kPositive = "a positive whole number";
constexpr const char* kCount = "0 or a positive whole number";
constexpr const char* kNumber = "0 or a positive number";
constexpr const char* kShare = "in [0, 1)";
constexpr const char* kSwitch = "true or false";
constexpr const char* kStep = "A step";
constexpr const char* kOptimizer = "The optimizer";
constexpr const char* kLora = "A LoRA adapter";
constexpr const char* kValidation = "Validation";
constexpr const char* kCheckpoints = "Checkpoints";

template <auto member>
auto& field(TrainOptions& options) {
  return options.*member;
}

template <auto member>
auto& schedule(TrainOptions& options) {
  return options.schedule.*member;
}

template <auto member>
auto& lora(TrainOptions& options) {
  return options.lora.*member;
}

using O = TrainOptions;
using S = ScheduleOptions;
using L = LoraOptions;

constexpr TrainOption kOptions[] = {
    {"steps", field<&O::steps>, 1, kAny, kPositive, false, kStep, "steps to train"},
    {"batch", field<&O::batch>, 1, kAny, kPositive, true, kStep, "sequences of a micro-batch"},
    {"block", field<&O::block>, 1, kAny, kPositive, true, kStep, "tokens of a sequence"},
    {"accumulate", field<&O::accumulate>, 1, kAny, kPositive, true, kStep, "micro-batches of a step"},
    {"seed", field<&O::seed>, 0, kMostSeed, "a whole number from 0 to 2^63 - 1", true, kStep,
     "of weights, order and dropout"},
    {"dtype", field<&O::dtype>, 0, 0, "float32, bfloat16 or float16", true, kStep,
     "what weights and activations are rounded to; the weights that are trained stay in float32"},
    {"form", field<&O::form>, 0, 0, "auto, parallel or chunked", false, kStep, "of attention"},
    {"chunk", field<&O::chunk>, 0, kAny, kCount, false, kStep,
     "tokens of a chunk in the chunked form; 0: what suits the hardware"},
    {"dropout", field<&O::dropout>, 0, kBelowOne, kShare, true, kStep,
     "share of g that is dropped; by default the config's"},
    {"horizon", field<&O::horizon>, 0, 0, "tokens, as 48, 12,48, inf or none", true, kStep,
     "how far back attention reaches, for all heads or each"},
    {"carry_state", field<&O::carry_state>, 0, 0, kSwitch, true, kStep,
     "train on consecutive blocks, the state carried over"},

    {"lr", schedule<&S::rate>, 0, kAny, kNumber, false, kOptimizer, "the highest learning rate"},
    {"final_lr", schedule<&S::final_rate>, 0, kAny, kNumber, false, kOptimizer,
     "the rate at the last step; a constant schedule has none"},
    {"schedule", schedule<&S::shape>, 0, 0, "constant, linear, cosine or wsd", false, kOptimizer,
     "how the rate falls; wsd: it stays, then falls at the end"},
    {"warmup", schedule<&S::warmup>, 0, kAny, kCount, false, kOptimizer,
     "steps in which the rate rises from 0"},
    {"decay_share", schedule<&S::decay_share>, 0, 1, "in [0, 1]", false, kOptimizer,
     "share of the steps in which wsd falls"},
    {"beta1", field<&O::beta1>, 0, kBelowOne, kShare, false, kOptimizer, "AdamW's, of the gradient"},
    {"beta2", field<&O::beta2>, 0, kBelowOne, kShare, false, kOptimizer, "AdamW's, of its square"},
    {"epsilon", field<&O::epsilon>, 0, kAny, kNumber, false, kOptimizer, "AdamW's"},
    {"weight_decay", field<&O::weight_decay>, 0, kAny, kNumber, false, kOptimizer, "AdamW's"},
    {"no_decay", field<&O::no_decay>, 0, 0, "names of parameters, as embed.weight,lm_head", false, kOptimizer,
     "parameters without weight decay"},
    {"clip", field<&O::clip>, 0, kAny, kNumber, false, kOptimizer,
     "the most the gradient's norm may be; 0: no limit"},
    {"skip_outliers", field<&O::skip_outliers>, 0, kAny, kNumber, false, kOptimizer,
     "skip a step whose loss or norm is so many standard deviations above the usual; 0: none"},
    {"ema", field<&O::ema>, 0, kBelowOne, kShare, false, kOptimizer,
     "decay of an average of the weights; 0: none is kept"},

    {"lora", lora<&L::on>, 0, 0, kSwitch, true, kLora,
     "train low-rank matrices beside the weights of --from, which stay as they are"},
    {"lora_rank", lora<&L::rank>, 1, kMostRank, "a whole number from 1 to 65536", true, kLora, "PEFT's r"},
    {"lora_alpha", lora<&L::alpha>, 0, kAny, kNumber, true, kLora,
     "PEFT's lora_alpha: what it adds is multiplied by alpha / rank"},
    {"lora_targets", lora<&L::targets>, 0, 0,
     "names of parameters, as encoder,encoder_v,decoder,lm_head,embed", true, kLora,
     "which parameters it changes, of encoder, encoder_v, decoder, lm_head and embed; default the first "
     "three"},
    {"lora_rslora", lora<&L::rslora>, 0, 0, kSwitch, true, kLora, "alpha / sqrt(rank) (arXiv 2312.03732)"},
    {"lora_dropout", lora<&L::dropout>, 0, 0, "0, because the adapter is merged into the weights", true,
     kLora, "PEFT's lora_dropout: 0 alone"},

    {"validation_share", field<&O::validation_share>, 0, kBelowOne, kShare, false, kValidation,
     "of the text, its end, that is not trained on"},
    {"valid_every", field<&O::valid_every>, 0, kAny, kCount, false, kValidation,
     "steps between validations; 0: at the end alone"},
    {"valid_tokens", field<&O::valid_tokens>, 0, kAny, kCount, false, kValidation,
     "tokens of a validation, at most; 0: all"},
    {"metric", field<&O::metric>, 0, 0, "valid_loss, valid_bits_per_byte, ema_valid_loss or loss", false,
     kValidation, "what the best checkpoint is the best by"},
    {"greater_is_better", field<&O::greater_is_better>, 0, 0, kSwitch, false, kValidation,
     "the best has the greatest metric"},
    {"patience", field<&O::patience>, 0, kAny, kCount, false, kValidation,
     "stop after so many validations without a better one; 0: never"},
    {"sample_every", field<&O::sample_every>, 0, kAny, kCount, false, kValidation,
     "steps between samples of text; 0: none"},
    {"sample_prompt", field<&O::sample_prompt>, 0, 0, "text", false, kValidation,
     "what a sample begins with"},
    {"sample_tokens", field<&O::sample_tokens>, 1, kAny, kPositive, false, kValidation, "tokens of a sample"},

    {"checkpoint_every", field<&O::checkpoint_every>, 0, kAny, kCount, false, kCheckpoints,
     "steps between checkpoint_step_N; 0: none"},
    {"checkpoint_epochs", field<&O::checkpoint_epochs>, 0, kAny, kCount, false, kCheckpoints,
     "epochs between checkpoint_epoch_N; 0: none"},
    {"latest_every", field<&O::latest_every>, 0, kAny, kCount, false, kCheckpoints,
     "steps between checkpoint_latest; 0: as often as the others"},
    {"save_total_limit", field<&O::save_total_limit>, 0, kAny, kCount, false, kCheckpoints,
     "checkpoints kept, beside the best and the last; 0: all"},
    {"save_top", field<&O::save_top>, 0, kAny, kCount, false, kCheckpoints,
     "of them those with the best metric; the rest are the newest"},
};

constexpr std::pair<TrainingForm, std::string_view> kForms[] = {{TrainingForm::automatic, "auto"},
                                                                {TrainingForm::parallel, "parallel"},
                                                                {TrainingForm::chunked, "chunked"}};

// To JSON.
Json value_of(int64_t value) { return value; }
Json value_of(uint64_t value) { return static_cast<int64_t>(value); }
Json value_of(double value) { return value; }
Json value_of(bool value) { return value; }
Json value_of(const std::string& value) { return value; }
Json value_of(const std::optional<double>& value) { return value ? Json(*value) : Json(); }
Json value_of(const std::vector<float>& horizon) { return horizon_to_json(horizon); }
Json value_of(const std::vector<std::string>& names) { return Json::Array(names.begin(), names.end()); }
Json value_of(DType dtype) { return torch_name_of(dtype); }
Json value_of(ScheduleShape shape) { return name_of(shape); }
Json value_of(TrainingForm form) {
  return std::find_if(std::begin(kForms), std::end(kForms),
                      [&](const auto& known) { return known.first == form; })
      ->second;
}

// From JSON: each throws an Error that says what is wrong with the value alone.
[[noreturn]] void refuse(const Json& json) { fail(ErrorKind::bad_file, "not ", printable(json.dump())); }

void read(const Json& json, int64_t& value) { value = json.as_integer(); }
void read(const Json& json, double& value) { value = json.as_number(); }
void read(const Json& json, bool& value) { value = json.as_bool(); }
void read(const Json& json, std::string& value) { value = json.as_string(); }
void read(const Json& json, std::vector<float>& value) { value = horizon_from_json(json); }
void read(const Json& json, uint64_t& value) {
  if (json.as_integer() < 0) refuse(json);
  value = static_cast<uint64_t>(json.as_integer());
}
void read(const Json& json, std::optional<double>& value) {
  value = json.is_null() ? std::nullopt : std::optional(json.as_number());
}
void read(const Json& json, std::vector<std::string>& value) {
  value.clear();
  for (const Json& name : json.as_array()) value.push_back(name.as_string());
}
void read(const Json& json, DType& value) {
  const std::optional<DType> dtype = dtype_from_option(json.as_string());
  if (!dtype || *dtype == DType::f64) refuse(json);
  value = *dtype;
}
void read(const Json& json, ScheduleShape& value) { value = parse_schedule(json.as_string()); }
void read(const Json& json, TrainingForm& value) {
  const auto* form = std::find_if(std::begin(kForms), std::end(kForms),
                                  [&](const auto& known) { return known.second == json.as_string(); });
  if (form == std::end(kForms)) refuse(json);
  value = form->first;
}

// Of numbers; other values are what they are.
template <class Value>
bool within(const TrainOption&, const Value&) {
  return true;
}
bool within(const TrainOption& option, double value) { return value >= option.low && value <= option.high; }
bool within(const TrainOption& option, int64_t value) { return within(option, static_cast<double>(value)); }
bool within(const TrainOption& option, uint64_t value) {
  return static_cast<double>(value) >= option.low && value < static_cast<uint64_t>(1) << 63;
}
bool within(const TrainOption& option, const std::optional<double>& value) {
  return !value || within(option, *value);
}
bool within(const TrainOption& option, const std::string& value) {
  return option.name != "metric" ||
         std::find(std::begin(kMetrics), std::end(kMetrics), value) != std::end(kMetrics);
}
bool within(const TrainOption&, DType value) {
  return value == DType::f32 || value == DType::bf16 || value == DType::f16;
}

Json json_of(const TrainOption& option, const TrainOptions& options) {
  return std::visit([&](auto place) { return value_of(place(const_cast<TrainOptions&>(options))); },
                    option.place);
}

void set_option(const TrainOption& option, TrainOptions& options, const Json& json) {
  std::visit([&](auto place) { read(json, place(options)); }, option.place);
}

bool allowed(const TrainOption& option, const TrainOptions& options) {
  return std::visit([&](auto place) { return within(option, place(const_cast<TrainOptions&>(options))); },
                    option.place);
}

// Numbers as JSON writes them, words as they are; a list is split at its commas.
Json number(std::string_view text) {
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size())
    fail(ErrorKind::invalid_argument, "no number");
  return value;
}

Json whole_number(std::string_view text) {
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return value;
  return number(text).as_integer();
}

Json list(std::string_view text) {
  Json names(Json::Array{});
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    names.push(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return names;
}

struct FlagText {
  std::string_view text;
  Json operator()(OptionPlace<int64_t>) const { return whole_number(text); }
  Json operator()(OptionPlace<uint64_t>) const { return whole_number(text); }
  Json operator()(OptionPlace<double>) const { return number(text); }
  Json operator()(OptionPlace<std::optional<double>>) const { return number(text); }
  Json operator()(OptionPlace<bool>) const {
    if (text != "true" && text != "false") fail(ErrorKind::invalid_argument, "no switch");
    return text == "true";
  }
  Json operator()(OptionPlace<std::vector<float>>) const { return horizon_to_json(parse_horizon(text)); }
  Json operator()(OptionPlace<std::vector<std::string>>) const { return list(text); }
  template <class Word>
  Json operator()(OptionPlace<Word>) const {
    return text;
  }
};

const TrainOption& option_named(std::string_view name, std::string_view source) {
  const auto* option = std::find_if(std::begin(kOptions), std::end(kOptions),
                                    [&](const TrainOption& known) { return known.name == name; });
  if (option == std::end(kOptions))
    fail(ErrorKind::bad_file, source, ": ", printable(name), " is no training option; remove it");
  return *option;
}

}  // namespace

std::span<const TrainOption> train_options() { return kOptions; }

Json TrainOption::parse(std::string_view text) const {
  try {
    Json json = std::visit(FlagText{text}, place);
    TrainOptions tried;
    set_option(*this, tried, json);
    if (allowed(*this, tried)) return json;
  } catch (const Error&) {
  }
  fail(ErrorKind::invalid_argument, name, " must be ", rule, ", not ", printable(text));
}

Json TrainOptions::to_json() const {
  Json json(Json::Object{});
  for (const TrainOption& option : kOptions) json.set(option.name, json_of(option, *this));
  return json;
}

void TrainOptions::set(const Json& json, std::string_view source) {
  if (!json.is_object()) fail(ErrorKind::bad_file, source, ": expected a JSON object with training options");
  for (const auto& [name, value] : json.as_object()) {
    const TrainOption& option = option_named(name, source);
    try {
      set_option(option, *this, value);
    } catch (const Error&) {
      fail(ErrorKind::bad_file, source, ": ", name, " must be ", option.rule, ", not ",
           printable(value.dump()));
    }
    if (!allowed(option, *this))
      fail(ErrorKind::bad_file, source, ": ", name, " must be ", option.rule, ", not ", value.dump());
  }
}

void TrainOptions::validate() const {
  for (const TrainOption& option : kOptions) {
    if (!allowed(option, *this))
      fail(ErrorKind::invalid_argument, option.name, " must be ", option.rule, ", not ",
           json_of(option, *this).dump());
  }
  if (metric == "ema_valid_loss" && ema == 0)
    fail(ErrorKind::invalid_argument, "metric ema_valid_loss needs an average of the weights; set ema");
  if (!lora.on && lora != LoraOptions())
    fail(ErrorKind::invalid_argument,
         "rank, alpha and targets are those of a LoRA adapter; set lora to train one");
}

}  // namespace bdh
