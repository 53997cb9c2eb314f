// The parameters of /v1/completions, /v1/chat/completions and /generate.
#include "tools/serve/text_query.h"

#include <algorithm>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/serve/prefix_cache.h"
#include "bdh/text/generation_options.h"
#include "kernels/sampling_options.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostPrompts = 64, kMostStops = 16;
constexpr int64_t kMostTexts = 16, kMostTop = 20;

using P = Parameter<TextQuery>;
using Table = Parameters<TextQuery>;

Json string_or_strings(std::string_view help) {
  Json schema;
  schema.set("description", help)
      .set("anyOf", Json::Array{schema_of("string", ""), array_schema("", schema_of("string", ""))});
  return schema;
}

// ---- what all three have ----

void add_sampling(Table& table) {
  for (const SamplingOption& option : sampling_options()) {
    const std::string name(option.name);
    const auto set = [&option, name](const Json& value, TextQuery& query) {
      const auto put = [&](auto member) {
        auto& place = query.config.sampling.*member;
        using Number = std::remove_reference_t<decltype(place)>;
        if constexpr (std::is_integral_v<Number>) {
          place = whole_number(value, name, static_cast<int64_t>(option.low), kMostNumber);
        } else {
          place = static_cast<Number>(real_number(value, name, option.low, option.high));
        }
      };
      std::visit(put, option.member);
      if (option.warper) query.config.sampling.do_sample = true;
    };
    const bool is_whole = std::holds_alternative<int64_t SamplingOptions::*>(option.member);
    table.push_back({name,
                     is_whole ? integer_schema(option.help, static_cast<int64_t>(option.low), kMostNumber)
                              : number_schema(option.help, option.low, option.high),
                     set});
  }
}

void add_generation(Table& table) {
  for (const char* name : {"min_new_tokens", "no_repeat_ngram_size"}) {
    const auto options = generation_options();
    const auto option = std::find_if(options.begin(), options.end(),
                                     [&](const GenerationOption& one) { return one.name == name; });
    const auto member = std::get<int64_t GenerationConfig::*>(option->member);
    table.push_back({name, integer_schema(option->help, option->low, option->high),
                     [=](const Json& value, TextQuery& query) {
                       query.config.*member = whole_number(value, name, option->low, option->high);
                     }});
  }
  table.push_back({"suppress_tokens",
                   array_schema("tokens never to draw", integer_schema("", 0, kMostNumber)),
                   [](const Json& value, TextQuery& query) {
                     const std::vector<int32_t> list = tokens(value, "suppress_tokens");
                     query.config.suppress_tokens.assign(list.begin(), list.end());
                   }});
}

void set_return_state(const Json& value, TextQuery& query) {
  query.return_state = !value.is_bool() || value.as_bool();
  if (value.is_bool()) return;
  query.state_name = words(value, "return_state");
  check_state_name(query.state_name);
}

P most_tokens(const std::string& name, const QueryLimits& limits) {
  return {name, integer_schema("tokens of a text, at most", 0, limits.tokens),
          [=](const Json& value, TextQuery& query) {
            query.config.max_new_tokens = whole_number(value, name, 0, limits.tokens);
            query.config.max_length = 0;
          }};
}

Table common_parameters(const QueryLimits& limits) {
  Table table{
      text("model", &TextQuery::model, "the model's name; with one model served it may be left out"),
      most_tokens("max_tokens", limits),
      {"stop", string_or_strings("the text ends before the first of these"),
       [](const Json& value, TextQuery& query) { query.config.stop = texts(value, "stop", kMostStops); }},
      {"seed", integer_schema("the same seed gives the same text; random by default", 0, kMostNumber),
       [](const Json& value, TextQuery& query) {
         query.seed = static_cast<uint64_t>(whole_number(value, "seed", 0, kMostNumber));
       }},
      text("state", &TextQuery::state, "the state to go on from"),
      {"return_state",
       Json()
           .set("description", "keep the state after the text, under this name or a new one")
           .set("anyOf", Json::Array{schema_of("boolean", ""), schema_of("string", "")}),
       set_return_state},
      without_effect<TextQuery>("user"),
  };
  add_sampling(table);
  add_generation(table);
  return table;
}

// ---- what OpenAI's two have ----

void set_stream_options(const Json& value, TextQuery& query) {
  if (!value.is_object()) throw ApiError(400, "'stream_options' must be an object", "stream_options");
  for (const auto& [name, option] : value.as_object()) {
    if (name == "include_usage") {
      query.include_usage = truth(option, "stream_options.include_usage");
    } else if (name != "include_obfuscation") {
      throw ApiError(400, "there is no parameter 'stream_options." + name + "'", "stream_options");
    }
  }
}

void add_openai(Table& table) {
  table.push_back(whole<TextQuery>("n", &TextQuery::n, 1, kMostTexts, "texts for each prompt"));
  table.push_back(flag("stream", &TextQuery::stream, "send the text as it comes, as server-sent events"));
  Json options = schema_of("object", "");
  options
      .set("properties", Json()
                             .set("include_usage", schema_of("boolean", "count tokens in a last event"))
                             .set("include_obfuscation", Json(Json::Object{})))
      .set("additionalProperties", false);
  table.push_back({"stream_options", options, set_stream_options});
  const char* penalty = "presence and frequency penalties are not built; use repetition_penalty";
  table.push_back(only<TextQuery>("presence_penalty", Json::Array{0}, penalty));
  table.push_back(only<TextQuery>("frequency_penalty", Json::Array{0}, penalty));
  table.push_back(only<TextQuery>("logit_bias", Json::Array{Json::Object{}}, "use suppress_tokens"));
  for (const char* name : {"metadata", "service_tier", "safety_identifier", "prompt_cache_key"})
    table.push_back(without_effect<TextQuery>(name));
  table.push_back(only<TextQuery>("store", Json::Array{false}, "nothing is stored"));
}

// ---- completions ----

void set_prompt(const Json& value, TextQuery& query) {
  const Json::Array one{value};
  const bool is_list = value.is_array() && !value.as_array().empty() && !value.as_array().front().is_number();
  const Json::Array& list = is_list ? value.as_array() : one;
  if (list.size() > kMostPrompts)
    throw ApiError(400, concat("'prompt' must be at most ", kMostPrompts, " prompts"), "prompt");
  for (const Json& prompt : list) {
    if (prompt.is_string()) {
      query.prompts.push_back({prompt.as_string(), {}});
    } else if (prompt.is_array() && !prompt.as_array().empty()) {
      query.prompts.push_back({"", tokens(prompt, "prompt")});
    } else {
      throw ApiError(400, "'prompt' must be a string, an array of tokens, or an array of these", "prompt");
    }
  }
}

Json prompt_schema() {
  const Json number = integer_schema("", 0, std::numeric_limits<int32_t>::max());
  const auto some = [](const Json& items) { return array_schema("", items).set("minItems", 1); };
  return Json()
      .set("description", "the text to continue, or its tokens; or several of them")
      .set("anyOf", Json::Array{schema_of("string", ""), some(schema_of("string", "")), some(number),
                                some(some(number))});
}

// ---- chat ----

std::string content_of(const Json& message) {
  const Json* content = message.find("content");
  if (content && content->is_string()) return content->as_string();
  if (!content || !content->is_array())
    throw ApiError(400, "a message's content must be a string, or an array of parts of type text",
                   "messages");
  std::string text;
  for (const Json& part : content->as_array()) {
    const Json* type = part.find("type");
    const Json* piece = part.find("text");
    if (!type || *type != Json("text") || !piece || !piece->is_string() || part.as_object().size() != 2)
      throw ApiError(400, "a message may have parts of type text alone", "messages");
    text += piece->as_string();
  }
  return text;
}

std::string role_of(const Json& message) {
  const Json* role = message.find("role");
  for (const char* known : {"system", "developer", "user", "assistant"})
    if (role && *role == Json(known)) return known;
  throw ApiError(400, "a message's role must be system, developer, user or assistant", "messages");
}

std::string with_role(std::string text, const std::string& role) {
  for (size_t at = text.find("{role}"); at != std::string::npos; at = text.find("{role}", at + role.size()))
    text.replace(at, 6, role);
  return text;
}

Json messages_schema() {
  Json part = schema_of("object", "");
  part.set("properties",
           Json().set("type", Json().set("enum", Json::Array{"text"})).set("text", schema_of("string", "")))
      .set("required", Json::Array{"type", "text"})
      .set("additionalProperties", false);
  Json message = schema_of("object", "");
  message
      .set("properties",
           Json()
               .set("role", Json().set("enum", Json::Array{"system", "developer", "user", "assistant"}))
               .set("content",
                    Json().set("anyOf", Json::Array{schema_of("string", ""), array_schema("", part)}))
               .set("name", schema_of("string", "makes no difference")))
      .set("required", Json::Array{"role", "content"})
      .set("additionalProperties", false);
  return array_schema("the conversation so far", message).set("minItems", 1);
}

}  // namespace

void check_state_name(const std::string& name) {
  const auto fits = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '.' || letter == '_' || letter == '-';
  };
  if (!name.empty() && name.size() <= 64 && name.front() != '.' && !name.starts_with(PrefixCache::kPrefix) &&
      std::all_of(name.begin(), name.end(), fits))
    return;
  throw ApiError(400,
                 "a state's name must be 1 to 64 of A-Z a-z 0-9 . _ -, and not begin with a dot or prefix-",
                 "state");
}

ChatFormat::ChatFormat(const std::string& format) {
  constexpr std::string_view kContent = "{content}";
  const size_t at = format.find(kContent);
  if (at == std::string::npos || format.find(kContent, at + 1) != std::string::npos)
    fail(ErrorKind::invalid_argument,
         "--chat-format must have {content} once, as in '{role}: {content}\\n\\n'");
  before_ = format.substr(0, at);
  after_ = format.substr(at + kContent.size());
}

std::string ChatFormat::prompt(const Json& messages) const {
  if (!messages.is_array() || messages.as_array().empty())
    throw ApiError(400, "'messages' must be an array of at least one message", "messages");
  std::string text;
  for (const Json& message : messages.as_array()) {
    if (!message.is_object()) throw ApiError(400, "a message must be an object", "messages");
    for (const auto& [name, value] : message.as_object())
      if (name != "role" && name != "content" && name != "name")
        throw ApiError(400, concat("messages: '", name, "': this server has no such thing"), "messages");
    text += with_role(before_, role_of(message)) + content_of(message) + with_role(after_, role_of(message));
  }
  std::string reply = with_role(before_, "assistant");
  reply.erase(reply.find_last_not_of(' ') + 1);
  return text + reply;
}

Parameters<TextQuery> completion_parameters(const QueryLimits& limits) {
  Table table = common_parameters(limits);
  table.push_back({"prompt", prompt_schema(), set_prompt, true});
  add_openai(table);
  table.push_back(flag("echo", &TextQuery::echo, "begin the text with the prompt"));
  table.push_back(
      {"logprobs",
       integer_schema("log probabilities of each token, and of so many likeliest ones", 0, kMostTop),
       [](const Json& value, TextQuery& query) {
         query.logprobs = whole_number(value, "logprobs", 0, kMostTop);
       }});
  table.push_back(
      flag("activity", &TextQuery::activity,
           "with logprobs and for one text: the neurons that fired while the token before each was read"));
  table.push_back(only<TextQuery>("best_of", Json::Array{1}, "only 1 is built"));
  table.push_back(only<TextQuery>("suffix", Json::Array{""}, "the model writes on and cannot fill in"));
  return table;
}

Parameters<TextQuery> chat_parameters(const QueryLimits& limits, const ChatFormat& format) {
  Table table = common_parameters(limits);
  table.push_back({"messages", messages_schema(),
                   [format](const Json& value, TextQuery& query) {
                     query.prompts = {{format.prompt(value), {}}};
                   },
                   true});
  table.push_back(most_tokens("max_completion_tokens", limits));
  add_openai(table);
  table.push_back(
      {"logprobs", schema_of("boolean", "log probabilities of each token"),
       [](const Json& value, TextQuery& query) { query.chat_logprobs = truth(value, "logprobs"); }});
  table.push_back({"top_logprobs",
                   integer_schema("those of so many likeliest tokens too; needs logprobs", 0, kMostTop),
                   [](const Json& value, TextQuery& query) {
                     query.top_logprobs = whole_number(value, "top_logprobs", 0, kMostTop);
                   }});
  Json plain;
  plain.set("type", "text");
  table.push_back(
      only<TextQuery>("response_format", Json::Array{plain}, "only {\"type\": \"text\"} is built"));
  table.push_back(only<TextQuery>("modalities", Json::Array{Json::Array{"text"}}, "only text is built"));
  table.push_back(only<TextQuery>("tools", Json::Array{Json::Array{}}, "tools are not built"));
  table.push_back(only<TextQuery>("tool_choice", Json::Array{"none", "auto"}, "tools are not built"));
  table.push_back(without_effect<TextQuery>("parallel_tool_calls"));
  return table;
}

Parameters<TextQuery> generate_parameters(const QueryLimits& limits) {
  Table table = common_parameters(limits);
  table.push_back({"prompt", schema_of("string", "the text to continue"),
                   [](const Json& value, TextQuery& query) {
                     query.prompts = {{words(value, "prompt"), {}}};
                   },
                   true});
  table.push_back(most_tokens("max_new_tokens", limits));
  table.push_back({"do_sample", schema_of("boolean", "false: always the likeliest token"),
                   [](const Json& value, TextQuery& query) { query.do_sample = truth(value, "do_sample"); }});
  return table;
}

}  // namespace bdh::tools
