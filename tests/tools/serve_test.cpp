// `bdh serve`: what it answers is what the library gives, whatever is asked at once; and what no client
// should do.

#include <doctest/doctest.h>
#include <signal.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "tests/support/command.h"
#include "tests/support/http.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/running_command.h"
#include "tests/support/temporary.h"

namespace {

using namespace std::chrono_literals;
using bdh::Json;
using bdh::test::ask;
using bdh::test::has;
using bdh::test::http_request;
using bdh::test::HttpAnswer;
using bdh::test::HttpConnection;
using bdh::test::HttpHeaders;
using bdh::test::TemporaryDirectory;

const Json& at(const Json& json, std::string_view key) {
  const Json* found = json.find(key);
  CAPTURE(key);
  REQUIRE(found);
  return *found;
}
const Json& at(const Json& json, size_t i) {
  REQUIRE(json.as_array().size() > i);
  return json.as_array()[i];
}

void write_model(const std::filesystem::path& folder, const bdh::Config& config = bdh::test::tiny_config()) {
  std::filesystem::create_directories(folder);
  bdh::test::write_model(folder, config);
}

/// A server of one random model.
class Server {
 public:
  explicit Server(std::vector<std::string> more = {}) {
    write_model(model());
    begin(std::move(more));
  }

  std::filesystem::path model() const { return directory_ / "model"; }
  std::filesystem::path file(const char* name) const { return directory_ / name; }
  int port() const { return port_; }
  HttpAnswer post(const std::string& path, const std::string& body, const HttpHeaders& headers = {}) const {
    return ask(port_, "POST", path, body, headers);
  }
  HttpAnswer get(const std::string& path) const { return ask(port_, "GET", path); }
  Json completion(const std::string& body) const {
    const HttpAnswer answer = post("/v1/completions", body);
    CAPTURE(answer.body);
    REQUIRE(answer.status == 200);
    return answer.json();
  }
  std::string text(const std::string& body) const {
    return at(at(at(completion(body), "choices"), 0), "text").as_string();
  }
  /// The number of that sample.
  double metric(const std::string& name) const {
    const std::string text = get("/metrics").body;
    const size_t place = text.find("\n" + name + " ");
    return place == std::string::npos ? -1 : std::atof(text.c_str() + place + name.size() + 2);
  }
  ~Server() {
    if (command_) end();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void signal(int number) const { command_->signal(number); }
  void await_metric(const std::string& name, double value) const {
    for (int i = 0; i < 1000 && metric(name) != value; ++i) std::this_thread::sleep_for(10ms);
    CHECK(metric(name) == value);
  }
  /// Sanitizers that found something make another exit code.
  bdh::test::CommandResult end() {
    command_->signal(SIGTERM);
    bdh::test::CommandResult result = command_->wait();
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    command_.reset();
    return result;
  }
  void begin(std::vector<std::string> more) {
    more.insert(more.begin(), {"serve", model().string(), "--port", "0", "--device", "cpu"});
    command_ = std::make_unique<bdh::test::RunningCommand>(more);
    std::string said;
    for (int i = 0; i < 3000 && !has(said, " answers,"); ++i) {
      std::this_thread::sleep_for(10ms);
      said = command_->said();
    }
    CAPTURE(said);
    const size_t place = said.find("http://127.0.0.1:");
    REQUIRE(place != std::string::npos);
    port_ = std::atoi(said.c_str() + place + 17);
  }
  std::string said() const { return command_->said(); }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<bdh::test::RunningCommand> command_;
  int port_ = 0;
};

const std::string kLong = R"({"prompt": "ab", "max_tokens": 1000000, "stream": true, "seed": 1})";
const std::vector<std::string> kManyTokens{"--max-tokens", "1000000"};

/// One that goes on and on, whose first text has come.
HttpConnection endless(const Server& server) {
  HttpConnection connection(server.port());
  connection.send(http_request("POST", "/v1/completions", kLong));
  CHECK(has(connection.read_until("\"text\""), "200 OK"));
  return connection;
}

}  // namespace

TEST_CASE("bdh serve: a completion is what bdh generate makes of it, with the bytes of a stream") {
  const Server server;
  const Json whole =
      server.completion(R"({"prompt": "abc", "max_tokens": 40, "seed": 7, "temperature": 0.9})");
  const Json made = bdh::test::json_of(
      bdh::test::run_command({"generate", server.model().string(), "--prompt", "abc", "-n", "40", "--seed",
                              "7", "--temperature", "0.9", "--json", "--chunk", "64"}));
  const Json& choice = at(at(whole, "choices"), 0);
  CHECK(at(choice, "text") == at(made, "text"));
  CHECK(at(choice, "finish_reason") == Json("length"));
  CHECK(at(at(whole, "usage"), "completion_tokens").as_integer() == 40);
  CHECK(at(whole, "seed").as_integer() == 7);

  const HttpAnswer stream = server.post(
      "/v1/completions",
      R"({"prompt": "abc", "max_tokens": 40, "seed": 7, "temperature": 0.9, "stream": true, "stream_options": {"include_usage": true}})");
  CHECK(has(stream.head, "text/event-stream"));
  const auto events = stream.events();
  REQUIRE(events.size() > 4);
  CHECK(events.back() == "[DONE]");
  std::string text;
  for (size_t i = 0; i + 2 < events.size(); ++i)
    text += at(at(at(Json::parse(events[i], "event"), "choices"), 0), "text").as_string();
  CHECK(text == at(choice, "text").as_string());
  const Json last = Json::parse(events[events.size() - 2], "event");
  CHECK(at(last, "choices").as_array().empty());
  CHECK(at(at(last, "usage"), "total_tokens").as_integer() == 43);
  CHECK(server.text(
            R"({"prompt": "abc", "max_tokens": 40, "seed": 7, "temperature": 0.9, "model": "any name"})") ==
        text);
}

TEST_CASE("bdh serve: several prompts and texts of each, tokens for text, stop, echo") {
  const Server server;
  const Json several = server.completion(
      R"({"prompt": ["abc", [100, 101]], "n": 2, "seed": 3, "max_tokens": 5, "echo": true})");
  const auto& choices = at(several, "choices").as_array();
  REQUIRE(choices.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(at(choices[i], "index").as_integer() == static_cast<int64_t>(i));
    const std::string prompt = i < 2 ? "abc" : "de";
    Json alone;
    alone.set("max_tokens", 5).set("seed", static_cast<uint64_t>(3 + i)).set("prompt", prompt);
    CHECK(at(choices[i], "text").as_string() == prompt + server.text(alone.dump()));
  }
  const std::string greedy = server.text(R"({"prompt": "abc", "temperature": 0, "max_tokens": 30})");
  const auto letter = std::find_if(greedy.begin(), greedy.end(), [](char one) { return one > 0; });
  REQUIRE(letter != greedy.end());
  const std::string stop = Json(std::string(1, *letter)).dump();
  const Json stopped =
      server.completion(R"({"prompt": "abc", "temperature": 0, "max_tokens": 30, "stop": [)" + stop + "]}");
  CHECK(at(at(at(stopped, "choices"), 0), "finish_reason") == Json("stop"));
  CHECK(greedy.starts_with(at(at(at(stopped, "choices"), 0), "text").as_string()));
}

TEST_CASE("bdh serve: the log probabilities of a prompt and its text are those of its logits") {
  const Server server;
  const Json whole = server.completion(
      R"({"prompt": "abcdefgh", "temperature": 0, "max_tokens": 2, "echo": true, "logprobs": 3})");
  const Json& logprobs = at(at(at(whole, "choices"), 0), "logprobs");
  const auto& numbers = at(logprobs, "token_logprobs").as_array();
  REQUIRE(numbers.size() == 10);
  CHECK(numbers[0].is_null());
  const bdh::Model model = bdh::Model::from_pretrained(server.model());
  bdh::Session session(model.weights);
  std::vector<int32_t> tokens(8);
  for (int32_t i = 0; i < 8; ++i) tokens[static_cast<size_t>(i)] = 'a' + i;
  const std::vector<float> logits = session.read_all(tokens);
  for (size_t i = 1; i < 8; ++i) {
    const std::span<const float> row = std::span(logits).subspan((i - 1) * 256, 256);
    CHECK(numbers[i].as_number() == doctest::Approx(bdh::log_probability(row, tokens[i])).epsilon(1e-5));
    CHECK(at(at(logprobs, "top_logprobs"), i).as_object().size() == 3);
  }
  for (size_t i = 8; i < 10; ++i) {
    const auto& top = at(at(logprobs, "top_logprobs"), i).as_object();
    CHECK(top.front().second == numbers[i]);  // greedy takes the likeliest
    CHECK(top.front().first == at(at(logprobs, "tokens"), i).as_string());
  }
  CHECK(at(at(logprobs, "text_offset"), 5).as_integer() == 5);
  const Json scored =
      server.completion(R"({"prompt": "abcdefgh", "max_tokens": 0, "echo": true, "logprobs": 0})");
  const Json& alone = at(at(at(at(scored, "choices"), 0), "logprobs"), "token_logprobs");
  CHECK(alone.as_array().size() == 8);
  CHECK(at(alone, 7) == numbers[7]);
}

TEST_CASE("bdh serve: chat writes the conversation in its format, and /generate answers as it always did") {
  const Server server({"--chat-format", "<{role}>{content}\\n"});
  const Json chat =
      server
          .post(
              "/v1/chat/completions",
              R"({"messages": [{"role": "system", "content": "Be"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "max_completion_tokens": 20, "seed": 5, "logprobs": true, "top_logprobs": 2})")
          .json();
  const Json& choice = at(at(chat, "choices"), 0);
  CHECK(at(at(choice, "message"), "content").as_string() ==
        server.text(
            R"({"prompt": "<system>Be\n<user>Hi\n<assistant>", "max_tokens": 20, "seed": 5, "stop": "\n"})"));
  const Json& first = at(at(at(choice, "logprobs"), "content"), 0);
  CHECK(at(first, "top_logprobs").as_array().size() == 2);
  CHECK(at(first, "logprob").as_number() < 0);

  const Json generated = server.post("/generate", R"({"prompt": "abc", "max_tokens": 9, "seed": 2})").json();
  CHECK(at(generated, "status") == Json("success"));
  CHECK(at(generated, "generated_text").as_string() ==
        "abc" + server.text(R"({"prompt": "abc", "max_tokens": 9, "seed": 2, "temperature": 0.7})"));
  const HttpAnswer wrong = server.post("/generate", R"({"prompt": 5})");
  CHECK(wrong.status == 400);
  CHECK(at(wrong.json(), "status") == Json("error"));
  CHECK(has(at(wrong.json(), "error").as_string(), "prompt"));
}

TEST_CASE("bdh serve: what is wrong with a request is said by name, with OpenAI's error object") {
  const Server server({"--max-tokens", "50", "--max-prompt-tokens", "9"});
  struct Wrong {
    const char* body;
    const char* said;
    const char* parameter = nullptr;
  };
  const Wrong wrong[] = {
      {"", "JSON"},
      {"[]", "JSON object"},
      {R"({"prompt": "a", "prompt": "b"})", "prompt"},
      {R"({})", "'prompt' is missing", "prompt"},
      {R"({"prompt": ""})", "empty"},
      {R"({"prompt": {}})", "'prompt'", "prompt"},
      {R"({"prompt": [300]})", "token 300"},
      {R"({"prompt": "a", "temprature": 1})", "temprature", "temprature"},
      {R"({"prompt": "a", "temperature": -1})", "temperature", "temperature"},
      {R"({"prompt": "a", "temperature": "hot"})", "temperature", "temperature"},
      {R"({"prompt": "a", "temperature": NaN})", "temperature", "temperature"},
      {R"({"prompt": "a", "top_k": 1.5})", "top_k", "top_k"},
      {R"({"prompt": "a", "max_tokens": 51})", "to 50", "max_tokens"},
      {R"({"prompt": "a", "n": 0})", "n", "n"},
      {R"({"prompt": "a", "n": 1000000000})", "n", "n"},
      {R"({"prompt": "a", "presence_penalty": 0.5})", "repetition_penalty", "presence_penalty"},
      {R"({"prompt": "a", "logit_bias": {"5": 1}})", "suppress_tokens", "logit_bias"},
      {R"({"prompt": "a", "best_of": 2})", "best_of", "best_of"},
      {R"({"prompt": "a", "suffix": "b"})", "suffix", "suffix"},
      {R"({"prompt": "a", "state": "none"})", "no state", "state"},
      {R"({"prompt": "a", "state": "../x"})", "name", "state"},
      {R"({"prompt": "a", "activity": true})", "logprobs", "activity"},
      {R"({"prompt": "0123456789"})", "10 tokens", "prompt"},
      {R"({"prompt": "a", "suppress_tokens": [-1]})", "suppress_tokens", "suppress_tokens"},
  };
  for (const Wrong& one : wrong) {
    CAPTURE(one.body);
    const HttpAnswer answer = server.post("/v1/completions", one.body);
    CHECK((answer.status == 400 || (answer.status == 404 && has(one.said, "no state"))));
    const Json error = at(answer.json(), "error");
    CHECK(has(at(error, "message").as_string(), one.said));
    CHECK(at(error, "type") == Json("invalid_request_error"));
    if (one.parameter) CHECK(at(error, "param") == Json(one.parameter));
  }
  CHECK(server
            .completion(
                R"({"prompt": "a", "presence_penalty": 0.0, "user": "x", "logit_bias": null, "seed": 1})")
            .is_object());
  CHECK(server.post("/v1/chat/completions", R"({"messages": []})").status == 400);
  CHECK(has(
      server
          .post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}], "tools": [{}]})")
          .body,
      "tools are not built"));
  CHECK(server.get("/v1/nothing").status == 404);
  const HttpAnswer method = ask(server.port(), "PUT", "/v1/models");
  CHECK(method.status == 405);
  CHECK(has(method.head, "Allow: GET"));
  CHECK(ask(server.port(), "OPTIONS", "/v1/models").status == 204);
  CHECK(server.get("/health").status == 200);
}

TEST_CASE("bdh serve: states are gone on from, forked, and go from one server to another") {
  Server server;
  CHECK(server.post("/v1/states", R"({"prompt": "abcdef", "id": "start"})").status == 201);
  CHECK(server.post("/v1/states", R"({"prompt": "abcdef", "id": "start"})").status == 409);
  const std::string whole = server.text(R"({"prompt": "abcdef", "max_tokens": 20, "seed": 4})");
  const std::string same = R"({"prompt": "", "state": "start", "max_tokens": 20, "seed": 4})";
  CHECK(server.text(same) == whole);
  CHECK(server.text(R"({"prompt": "", "state": "start", "max_tokens": 20, "seed": 4, "n": 1})") == whole);

  const Json half = server.completion(
      R"({"prompt": "", "state": "start", "max_tokens": 8, "temperature": 0, "return_state": "half"})");
  CHECK(at(at(at(half, "choices"), 0), "state") == Json("half"));
  const std::string greedy = server.text(R"({"prompt": "abcdef", "max_tokens": 20, "temperature": 0})");
  const std::string rest = R"({"prompt": "", "state": "half", "max_tokens": 12, "temperature": 0})";
  CHECK(at(at(at(half, "choices"), 0), "text").as_string() + server.text(rest) == greedy);
  const HttpAnswer fork = server.post("/v1/states/half/fork", R"({"id": "copy"})");
  CHECK(fork.status == 201);
  CHECK(at(fork.json(), "tokens").as_integer() == 14);
  CHECK(ask(server.port(), "DELETE", "/v1/states/half").status == 200);
  CHECK(ask(server.port(), "DELETE", "/v1/states/half").status == 404);
  CHECK(at(server.get("/v1/states").json(), "data").as_array().size() == 2);
  const HttpAnswer file = server.get("/v1/states/copy");
  CHECK(has(file.head, "application/octet-stream"));
  CHECK(at(server.get("/v1/states/copy/synapses?top=5").json(), "synapses").as_array().size() == 5);
  CHECK(server.get("/v1/states/copy/synapses?top=0").status == 400);

  server.end();
  server.begin({});
  CHECK(server.get("/v1/states/copy").status == 404);
  CHECK(ask(server.port(), "PUT", "/v1/states/taken", file.body).status == 201);
  CHECK(server.text(R"({"prompt": "", "state": "taken", "max_tokens": 12, "temperature": 0})") ==
        greedy.substr(
            greedy.size() -
            server.text(R"({"prompt": "", "state": "taken", "max_tokens": 12, "temperature": 0})").size()));
  CHECK(ask(server.port(), "PUT", "/v1/states/taken", file.body).status == 200);
  std::string damaged = file.body;
  damaged[damaged.size() / 3] = static_cast<char>(~damaged[damaged.size() / 3]);
  CHECK(ask(server.port(), "PUT", "/v1/states/bad", file.body.substr(0, file.body.size() - 9)).status == 400);
  CHECK(ask(server.port(), "PUT", "/v1/states/bad", "no session").status == 400);
  CHECK(ask(server.port(), "PUT", "/v1/states/.bad", file.body).status == 400);
}

TEST_CASE("bdh serve: a directory of states is shared by servers, and outlives them") {
  const TemporaryDirectory states;
  const std::vector<std::string> shared{"--state-dir", states.path().string()};
  Server first(shared);
  first.post("/v1/states", R"({"prompt": "abcdef", "id": "start"})");
  const std::string prompt(300, 'x');
  const std::string body = R"({"max_tokens": 5, "temperature": 0, "prompt": ")" + prompt + "\"}";
  const std::string text = first.text(body);
  const Server second(shared);
  CHECK(second.text(R"({"prompt": "", "state": "start", "max_tokens": 20, "seed": 4})") ==
        first.text(R"({"prompt": "abcdef", "max_tokens": 20, "seed": 4})"));
  first.end();
  const Json again = second.completion(body);
  CHECK(at(at(at(again, "choices"), 0), "text").as_string() == text);
  CHECK(at(at(at(again, "usage"), "prompt_tokens_details"), "cached_tokens").as_integer() == 256);
}

TEST_CASE("bdh serve: embeddings are the mean of x over a text's tokens") {
  const Server server;
  const Json json = server.post("/v1/embeddings", R"({"input": ["abcde", "z"]})").json();
  const bdh::Model model = bdh::Model::from_pretrained(server.model());
  bdh::Session session(model.weights);
  std::vector<float> x(5 * 16);
  const std::vector<int32_t> tokens{'a', 'b', 'c', 'd', 'e'};
  const bdh::SessionRead read{&session, tokens, {}, x};
  bdh::read_batch({&read, 1});
  const auto& vector = at(at(at(json, "data"), 0), "embedding").as_array();
  REQUIRE(vector.size() == 16);
  for (size_t d = 0; d < 16; ++d) {
    double mean = 0;
    for (size_t t = 0; t < 5; ++t) mean += x[t * 16 + d] / 5.0;
    CHECK(vector[d].as_number() == doctest::Approx(mean).epsilon(1e-5));
  }
  const Json base64 =
      server.post("/v1/embeddings", R"({"input": "abcde", "encoding_format": "base64"})").json();
  CHECK(at(at(at(base64, "data"), 0), "embedding").as_string().size() == (16 * 4 + 2) / 3 * 4);
  CHECK(server.post("/v1/embeddings", R"({"input": ""})").status == 400);
}

TEST_CASE("bdh serve: keys, origins, and what is open without a key") {
  const TemporaryDirectory folder;
  std::ofstream(folder / "keys") << "# two keys\nsecret-one\n\nsecret-two\r\n";
  const Server server({"--api-keys", (folder / "keys").string(), "--cors", "https://example.org"});
  const std::string body = R"({"prompt": "a", "max_tokens": 1})";
  CHECK(server.post("/v1/completions", body).status == 401);
  CHECK(server.post("/v1/completions", body, {{"Authorization", "Bearer secret-on"}}).status == 401);
  CHECK(server.post("/v1/completions", body, {{"Authorization", "Bearer # two keys"}}).status == 401);
  CHECK(server.post("/v1/completions", body, {{"authorization", "Bearer secret-two"}}).status == 200);
  CHECK(server.get("/v1/models").status == 401);
  CHECK(server.get("/metrics").status == 401);
  for (const char* open : {"/", "/health", "/ready", "/openapi.json"}) CHECK(server.get(open).status == 200);
  CHECK(has(server.get("/health").head, "Access-Control-Allow-Origin: https://example.org"));
  const std::string description = server.get("/openapi.json").body;
  CHECK(has(description, "\"scheme\": \"bearer\""));
  std::ofstream(folder / "short") << "abc\n";
  bdh::test::check_failure(bdh::test::run_command({"serve", server.model().string(), "--port", "0",
                                                   "--api-keys", (folder / "short").string()}),
                           1, "less than 8 characters");
}

TEST_CASE("bdh serve: bodies in chunks, pipelined requests, and what is no HTTP") {
  const Server server({"--max-body", "2000", "--client-seconds", "1"});
  const HttpConnection chunked(server.port());
  chunked.send("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  chunked.send(
      "d\r\n{\"prompt\": \"a\r\n15\r\nb\", \"max_tokens\": 3 }\r\n0\r\n\r\nGET /health HTTP/1.1\r\n\r\n");
  const std::string two = chunked.read_until("\"ok\"");
  CHECK(has(two, "\"completion_tokens\": 3"));
  CHECK(has(two, "\"ok\""));

  const std::string head = "POST /v1/completions HTTP/1.1\r\n";
  CHECK(ask(server.port(), "POST", "/v1/completions", std::string(3000, 'a')).status == 413);
  const std::pair<std::string, int> wrong[] = {
      {head + "Content-Length: 5x\r\n\r\n{}", 400},
      {head + "Content-Length: -1\r\n\r\n{}", 400},
      {head + "Content-Length: 99999999999999999999\r\n\r\n{}", 400},
      {head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
      {head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {head + "Transfer-Encoding: gzip\r\n\r\n", 501},
      {head + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415},
      {"GARBAGE\r\n\r\n", 400},
      {"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n\r\n", 414},
      {"\r\n\r\n", 400},
  };
  for (const auto& one : wrong) {
    CAPTURE(one.first.substr(0, 80));
    const HttpConnection connection(server.port());
    connection.send(one.first);
    CHECK(bdh::test::parse_answer(connection.read_all(20s)).status == one.second);
  }
  const HttpConnection endless_head(server.port());
  endless_head.send("GET / HTTP/1.1\r\n");
  for (int i = 0; i < 3000 && endless_head.send("A: " + std::string(60, 'b') + "\r\n"); ++i) {
  }
  CHECK(endless_head.read_all(20s).size() < 2000);
  const HttpConnection endless_chunk(server.port());
  endless_chunk.send("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3000 && endless_chunk.send("1000\r\n" + std::string(4096, 'b') + "\r\n"); ++i) {
  }
  CHECK(bdh::test::parse_answer(endless_chunk.read_all(20s)).status != 200);
  CHECK(server.get("/health").status == 200);
}

TEST_CASE("bdh serve: clients that stall, vanish or dribble are cut off, and disturb nobody") {
  const Server server({"--client-seconds", "1", "--max-tokens", "1000000"});
  std::vector<HttpConnection> stalled;
  for (int i = 0; i < 60; ++i) {
    HttpConnection& connection = stalled.emplace_back(server.port());
    if (i % 3 > 0) connection.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 50\r\n");
    if (i % 3 > 1) connection.send("\r\n{\"pro");
  }
  HttpConnection dribble(server.port());
  std::atomic<bool> cut = false;
  std::thread drops([&] {
    for (int i = 0; i < 100 && dribble.send("G"); ++i) std::this_thread::sleep_for(100ms);
    cut = true;
  });
  { HttpConnection gone = endless(server); }
  CHECK(server.text(R"({"prompt": "a", "max_tokens": 30, "seed": 1})").size() > 10);
  for (HttpConnection& connection : stalled)
    CHECK(bdh::test::parse_answer(connection.read_all(20s)).status != 200);
  drops.join();
  CHECK(cut);
  server.await_metric("bdh_writing{model=\"model\"}", 0);
}

TEST_CASE("bdh serve: beyond the queue requests are answered 429, beyond the connections 503") {
  const Server server({"--batch", "1", "--queue", "1", "--connections", "12", "--max-tokens", "1000000"});
  HttpConnection running = endless(server);
  HttpConnection waiting(server.port());
  waiting.send(http_request("POST", "/v1/completions", R"({"prompt": "ab", "max_tokens": 3, "seed": 1})"));
  server.await_metric("bdh_queue{model=\"model\"}", 1);
  const HttpAnswer full = server.post("/v1/completions", R"({"prompt": "ab"})");
  CHECK(full.status == 429);
  CHECK(has(full.head, "Retry-After: 1"));
  CHECK(at(at(full.json(), "error"), "type") == Json("rate_limit_error"));
  running.close();
  CHECK(bdh::test::parse_answer(waiting.read_all()).status == 200);
  std::vector<HttpConnection> idle;
  for (int i = 0; i < 12; ++i) idle.emplace_back(server.port());
  std::this_thread::sleep_for(100ms);
  CHECK(server.get("/health").status == 503);
  idle.clear();
}

TEST_CASE("bdh serve: a request that takes too long is ended, streamed or not") {
  const Server server({"--max-seconds", "1", "--max-tokens", "100000000"});
  const std::string body = R"({"prompt": "ab", "max_tokens": 100000000, "seed": 1)";
  CHECK(server.post("/v1/completions", body + "}").status == 504);
  const auto events = server.post("/v1/completions", body + R"(, "stream": true})").events();
  REQUIRE_FALSE(events.empty());
  CHECK(has(events.back(), "longer than 1 s"));
  server.await_metric("bdh_texts_total{model=\"model\"}", 2);
}

TEST_CASE("bdh serve: many at once, each with the text it gets alone") {
  const Server server({"--queue", "60", "--batch", "8"});
  const auto body = [](int seed) {
    return R"({"prompt": "abc", "max_tokens": 25, "seed": )" + std::to_string(seed) + "}";
  };
  std::vector<std::string> wanted;
  for (int seed = 0; seed < 5; ++seed) wanted.push_back(server.text(body(seed)));
  std::atomic<int> right = 0, refused = 0, wrong = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 100; ++i) {
    clients.emplace_back([&, i] {
      const HttpAnswer answer = server.post("/v1/completions", body(i % 5));
      if (answer.status == 429) return void(++refused);
      const bool same =
          answer.status == 200 && has(answer.body, Json(wanted[static_cast<size_t>(i % 5)]).dump());
      (same ? right : wrong)++;
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(wrong == 0);
  CHECK(right >= 60);
  CHECK(right + refused == 100);
}

TEST_CASE("bdh serve: SIGTERM ends it when all has been answered that was asked, with exit code 0") {
  Server server(kManyTokens);
  HttpConnection running(server.port());
  running.send(http_request("POST", "/v1/completions",
                            R"({"prompt": "ab", "max_tokens": 20000, "seed": 1, "stream": true})"));
  std::string stream = running.read_until("\"text\"");
  server.signal(SIGTERM);
  int refused = 0;
  for (int i = 0; i < 200 && refused == 0; ++i) {
    refused += server.post("/v1/completions", R"({"prompt": "a"})").status == 503;
    std::this_thread::sleep_for(2ms);
  }
  CHECK(refused == 1);
  stream += running.read_all();
  CHECK(has(stream, "[DONE]"));
  CHECK(has(stream, "\"finish_reason\": \"length\""));
  CHECK(has(server.end().err, "ending what has begun"));
}

TEST_CASE("bdh serve: SIGHUP loads what has changed, and no request notices") {
  const Server server(kManyTokens);
  const std::string body = R"({"prompt": "abc", "max_tokens": 30, "temperature": 0})";
  const std::string before = server.text(body);
  const Json fingerprint = at(server.completion(body), "system_fingerprint");
  HttpConnection running = endless(server);
  const auto wait_until = [&](const char* said, int times) {
    const auto count = [&] {
      int found = 0;
      const std::string text = server.said();
      for (size_t place = 0; (place = text.find(said, place)) != std::string::npos; ++place) ++found;
      return found;
    };
    for (int i = 0; i < 1000 && count() < times; ++i) std::this_thread::sleep_for(10ms);
    CHECK(count() == times);
  };
  server.signal(SIGHUP);
  wait_until("loaded anew", 1);
  CHECK(server.text(body) == before);
  bdh::Config other = bdh::test::tiny_config();
  other.n_layer = 3;
  write_model(server.model(), other);
  server.signal(SIGHUP);
  wait_until("loaded anew", 2);
  CHECK(at(server.completion(body), "system_fingerprint") != fingerprint);
  CHECK(server.text(body) != before);
  CHECK(has(running.read_until("\"text\""), "\"text\""));
  running.close();
  std::ofstream(server.model() / "config.json") << "{";
  server.signal(SIGHUP);
  wait_until("stay as they were", 1);
  CHECK(server.get("/v1/models").status == 200);
}

TEST_CASE("bdh serve: several models by name, of the registry too; two of one name are refused") {
  const TemporaryDirectory folder;
  for (const char* name : {"a", "b"}) {
    bdh::Config config = bdh::test::tiny_config();
    config.n_layer = name[0] == 'a' ? 1 : 2;
    write_model(folder / name, config);
  }
  std::filesystem::create_directory(folder / "run");  // as bdh train --lora leaves one
  std::filesystem::copy(folder / "b", folder / "run" / "final_merged");
  const std::string registry = (folder / "registry.json").string();
  bdh::test::output_of(bdh::test::run_command(
      {"models", "register", "reg", "v1", (folder / "run").string(), "--registry", registry}));
  const Server server(
      {(folder / "a").string(), "bee=" + (folder / "b").string(), "reg:v1", "--registry", registry});
  const Json list = server.get("/v1/models").json();
  std::vector<std::string> names;
  for (const Json& model : at(list, "data").as_array()) names.push_back(at(model, "id").as_string());
  CHECK(names == std::vector<std::string>{"model", "a", "bee", "reg:v1"});
  const auto text = [&](const std::string& model) {
    return server.text(R"({"prompt": "abc", "max_tokens": 30, "temperature": 0, "model": ")" + model + "\"}");
  };
  CHECK(text("bee") == text("reg:v1"));
  CHECK(text("a") != text("bee"));
  CHECK(server.post("/v1/completions", R"({"prompt": "a", "model": "none"})").status == 404);
  CHECK(has(server.post("/v1/completions", R"({"prompt": "a"})").body, "several models"));
  const std::string a = (folder / "a").string();
  bdh::test::check_failure(bdh::test::run_command({"serve", a, a, "--port", "0"}), 1, "would be called a");
  bdh::test::check_failure(bdh::test::run_command({"serve", a, "--port", "0", "--state-bytes", "1000"}), 1,
                           "--state-bytes");
  bdh::test::check_failure(bdh::test::run_command({"serve", a, "--port", std::to_string(server.port())}), 1,
                           "cannot listen");
  bdh::test::check_failure(bdh::test::run_command({"serve", a, "--port", "0", "--chat-format", "x"}), 1,
                           "{content}");
}

TEST_CASE("bdh serve: every metric is one that Prometheus reads, and the description has every path") {
  const Server server;
  server.text(R"({"prompt": "abc", "max_tokens": 5})");
  const std::string text = server.get("/metrics").body;
  std::string family;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    REQUIRE(end != std::string::npos);
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    CAPTURE(line);
    if (line.starts_with("# TYPE ")) family = line.substr(7, line.find(' ', 7) - 7);
    if (line.starts_with("#")) continue;
    CHECK(line.starts_with(family));
    char* rest = nullptr;
    const size_t space = line.rfind(' ');
    CHECK(std::isfinite(std::strtod(line.c_str() + space, &rest)));
    CHECK(*rest == 0);
  }
  CHECK(server.metric("bdh_text_tokens_total") == 5);
  const Json description = server.get("/openapi.json").json();
  for (const char* path : {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models",
                           "/v1/states/{id}/fork", "/generate", "/metrics"})
    CHECK(at(description, "paths").find(path));
}
