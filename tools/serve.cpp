// `bdh serve`: models behind HTTP, until a signal ends it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <sys/resource.h>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/lines.h"
#include "bdh/base/sha256.h"
#include "tools/command.h"
#include "tools/registry/registry.h"
#include "tools/serve/api.h"
#include "tools/serve/http_server.h"
#include "tools/serve/served_models.h"
#include "tools/serve/service.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostKeyBytes = 1 << 20;
constexpr size_t kLeastKey = 8;
constexpr auto kLook = std::chrono::milliseconds(20);

struct Options {
  ServedModelsOptions models;
  ServiceOptions service;
  HttpOptions http;
  std::string key_file;
};

/// The SHA-256 of each line.
std::vector<std::string> keys_in(const std::string& file) {
  std::vector<std::string> keys;
  if (file.empty()) return keys;
  const std::string text = read_text(file, kMostKeyBytes);
  for (std::string_view left = text; !left.empty();) {
    std::string_view key = next_line(left);
    key = key.substr(0, key.find_last_not_of(" \t\r") + 1);
    if (key.empty() || key.front() == '#') continue;
    if (key.size() < kLeastKey)
      fail(ErrorKind::bad_file, file, ": a key has less than ", kLeastKey, " characters; take longer ones");
    keys.push_back(sha256_of(key));
  }
  if (keys.empty()) fail(ErrorKind::bad_file, file, ": there is no key in it; write one in each line");
  return keys;
}

/// \n and \t as a shell gives them.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : 0;
    plain += next == 'n' ? '\n' : next == 't' ? '\t' : text[i];
    i += next == 'n' || next == 't';
  }
  return plain;
}

/// Each connection is a file.
void allow_files(int connections) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  const rlim_t wanted = static_cast<rlim_t>(connections) + 256;
  if (files.rlim_cur >= wanted) return;
  files.rlim_cur = std::min(wanted, files.rlim_max);
  setrlimit(RLIMIT_NOFILE, &files);
}

void reload(ServedModels& models) {
  try {
    models.reload();
    note("the models were loaded anew");
  } catch (const Error& error) {
    warn(concat("the models stay as they were: ", error.what()));
  }
}

/// Answers until a signal comes, and then what has been asked by then.
void serve_until_interrupted(HttpServer& server, ServedModels& models, Service& service) {
  while (!interrupted()) {
    if (take_hangup()) reload(models);
    std::this_thread::sleep_for(kLook);
  }
  note(server.answering() > 0 ? "ending what has begun" : "ending");
  service.draining = true;
  server.close_when_answered();
  while (server.answering() > 0) std::this_thread::sleep_for(kLook);
  server.stop();
  models.drain();
}

void run(Options options) {
  options.service.keys = keys_in(options.key_file);
  options.service.chat_format = unescaped(options.service.chat_format);
  if (options.models.models.size() > 1 && !options.models.common.adapters.empty())
    throw UsageError("--adapter needs a single model: serve the others from another process");
  allow_files(options.http.most_connections);
  ServedModels models(options.models);
  Service service(models, options.service);
  Api api(service);
  const uint64_t uploads = 2 * (models.most_session() + (uint64_t{1} << 20));
  options.http.most_body_bytes = std::max<uint64_t>(uint64_t{256} << 20, uploads);
  HttpServer server(api, options.http);
  catch_hangups();
  catch_terminations();
  server.start();
  for (const ServedModelPointer& served : models.list())
    note(concat(served->id, ": ", served->path, ", ", served->model->weights->backend().name(), ", ",
                served->model->weights->dtype_name()));
  note(concat("http://", options.http.host, ":", server.port(), "/ answers, ", models.batch(),
              " texts at once; Ctrl-C ends it"));
  serve_until_interrupted(server, models, service);
}

}  // namespace

void add_serve(Command& program) {
  const auto options = std::make_shared<Options>();
  options->models.registry = default_registry();
  Command command = program.subcommand("serve", "Answer HTTP requests: OpenAI's API, states, a page");
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  command
      .option("MODEL", &options->models.models,
              "a model directory, one that bdh train --lora left, or NAME[:VERSION] of the registry; "
              "ID=MODEL gives it a name")
      .required();
  add_backend_options(command, options->models.common);
  add_adapter_option(command, options->models.common);
  add_dtype_option(command, options->models.common);
  add_state_dtype_option(command, options->models.common);
  command.option("--registry", &options->models.registry,
                 "the registry's file; $BDH_REGISTRY, or ./model_registry.json, is the default");
  command.option("--host", &options->http.host,
                 "the address to listen on; default 127.0.0.1, this machine alone");
  command.option("--port", &options->http.port, "default 8080; 0: one that is free").range(0, 65535);
  command.option("--chat-format", &options->service.chat_format,
                 "how a conversation is written, for each message; default '{role}: {content}\\n\\n'");
  command.option("--api-keys", &options->key_file,
                 "a file with a key in each line: requests need one of them");
  command.option("--cors", &options->service.cors, "the origin whose pages may ask, or *; default none");
  const std::string limits = "Limits";
  command.option("--batch", &options->models.batch, "texts of a model at once; default 16")
      .range(1, 1024)
      .group(limits);
  command.option("--queue", &options->models.queue, "texts that wait; more are answered 429; default 256")
      .range(0, 1 << 20)
      .group(limits);
  command
      .option("--connections", &options->http.most_connections,
              "at once; more are answered 503; default 1100")
      .range(1, 1 << 16)
      .group(limits);
  command.option("--max-tokens", &options->service.limits.tokens, "of a text; default 4096")
      .range(1, kMost)
      .group(limits);
  command.option("--max-prompt-tokens", &options->service.prompt_tokens, "default 1048576")
      .range(1, kMost)
      .group(limits);
  command.option("--max-body", &options->service.body_bytes, "bytes of a request; default 4 MiB")
      .range(1024, int64_t{1} << 32)
      .group(limits);
  command.option("--max-seconds", &options->service.seconds, "for a request; default 600")
      .range(1, 1 << 30)
      .group(limits);
  command
      .option("--client-seconds", &options->http.client_seconds,
              "for a client to send a request's head, or to take a piece of a reply; default 10")
      .range(1, 3600)
      .group(limits);
  const std::string states = "States";
  command
      .option("--state-bytes", &options->models.state_bytes,
              "memory of all states, those of running texts too; default 4 GiB")
      .range(1, kMost)
      .group(states);
  const Option directory = command
                               .option("--state-dir", &options->models.state_directory,
                                       "keep states in this directory too; several servers may share it")
                               .group(states);
  command
      .option("--state-dir-bytes", &options->models.state_directory_bytes,
              "at most so many there; default 16 GiB")
      .range(1, kMost)
      .needs(directory)
      .group(states);
  command.footer(
      "Example: bdh serve model, then: curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": "
      "\"ROMEO:\", \"max_tokens\": 50}'\n"
      "http://127.0.0.1:8080/ is a page to write with the model; GET /openapi.json describes every request.\n"
      "SIGTERM and Ctrl-C end the server when all has been answered that was asked; SIGHUP loads the models "
      "anew.");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
