// What the replies share.
#include "tools/serve/service.h"

#include <random>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/text/utf8.h"

namespace bdh::tools {
Service::Service(ServedModels& served, ServiceOptions given)
    : models(served),
      options(std::move(given)),
      chat_format(options.chat_format),
      completion(completion_parameters(options.limits)),
      chat(chat_parameters(options.limits, chat_format)),
      generate(generate_parameters(options.limits)) {
  add_text_routes(*this, routes);
  add_model_routes(routes);
  add_state_routes(routes);
  add_server_routes(routes);
}

HttpReply json_reply(const Json& json, int status) {
  HttpReply reply{.status = status, .body = json.dump() + "\n"};
  if (status == 429 || status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

std::string new_id(std::string_view prefix) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  thread_local std::random_device device;
  std::string id(prefix);
  for (int i = 0; i < 3; ++i) {
    uint32_t bits = device();
    for (int digit = 0; digit < 8; ++digit, bits >>= 4) id += kDigits[bits & 15];
  }
  return id;
}

ServedModelPointer model_named(const Service& service, const std::string& name) {
  ServedModelPointer served = service.models.find(name);
  if (served) return served;
  if (name.empty())
    throw ApiError(400, "several models are served: name one with 'model' (GET /v1/models lists them)",
                   "model");
  throw ApiError(404, concat("there is no model '", name, "' (GET /v1/models lists them)"), "model");
}

std::vector<int32_t> prompt_tokens(const Service& service, const ServedModel& served,
                                   const GivenPrompt& prompt, bool begins) {
  EncodeOptions encode;
  encode.special_tokens = begins;
  std::vector<int32_t> tokens;
  if (prompt.tokens) {
    tokens = *prompt.tokens;
  } else if (begins || !prompt.text.empty()) {
    tokens = served.model->tokenizer->encode_with(encode, prompt.text);
  }
  if (std::ssize(tokens) > service.options.prompt_tokens) {
    throw ApiError(400,
                   concat("the prompt has ", tokens.size(), " tokens, more than the ",
                          service.options.prompt_tokens, " that this server takes"),
                   "prompt");
  }
  return tokens;
}

std::string token_string(const Tokenizer& tokenizer, int32_t token) {
  std::string bytes = tokenizer.decode({&token, 1});
  if (valid_utf8(bytes) == bytes) return bytes;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "bytes:";
  for (const char letter : bytes) {
    const auto byte = static_cast<uint8_t>(letter);
    text += "\\x";
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace bdh::tools
