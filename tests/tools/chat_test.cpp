// `bdh chat`: a session kept between lines, commands, hints. Runs the built program.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"

namespace {

using bdh::test::CommandResult;
using bdh::test::has;
using bdh::test::output_of;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;

struct ChatRun {
  TemporaryDirectory directory;

  ChatRun() { bdh::test::write_model(directory.path()); }

  CommandResult run(const std::string& input, std::vector<std::string> more = {"--greedy", "-n", "9"}) const {
    more.insert(more.begin(), {"chat", directory.path().string()});
    return run_command(more, input);
  }
  std::string text(const std::string& input, std::vector<std::string> more = {"--greedy", "-n", "9"}) const {
    return output_of(run(input, std::move(more)));
  }
};

/// Greedy replies of nine tokens at most, each from a session of its own that reads all that went before at
/// once.
std::string expected_replies(const ChatRun& chat, const std::vector<std::string>& lines) {
  const bdh::Model model = bdh::Model::from_pretrained(chat.directory.path());
  bdh::GenerationConfig config;
  config.max_new_tokens = 9;
  config.sampling.do_sample = false;
  config.stop = {"\n\n"};
  std::string said, replies;
  for (const std::string& line : lines) {
    said += line + "\n";
    bdh::Session session(model.weights);
    bdh::Session* pointer = &session;
    const auto reply = bdh::generate({&pointer, 1}, *model.tokenizer, {&said, 1}, config).texts[0];
    said += model.tokenizer->decode(reply.tokens);
    replies += reply.text + (reply.text.ends_with('\n') ? "" : "\n");
  }
  return replies;
}

}  // namespace

TEST_CASE("bdh chat: the session remembers every line and every reply, its last token too") {
  const ChatRun chat;
  CHECK(chat.text("first\nsecond line\n\nlast") ==
        expected_replies(chat, {"first", "second line", "", "last"}));
}

TEST_CASE("bdh chat: eos_token_id of generation_config.json ends a reply") {
  const ChatRun chat;
  bdh::Json every_token(bdh::Json::Array{});
  for (int token = 0; token < 256; ++token) every_token.push(token);
  bdh::Json settings;
  settings.set("eos_token_id", every_token);
  bdh::test::write_file(chat.directory / "generation_config.json", settings.dump());
  CHECK(chat.text("hello\nagain\n") == "\n\n");
}

TEST_CASE(
    "bdh chat: one reply whatever num_return_sequences says, and none where the text would be another") {
  const ChatRun chat;
  const std::string once = chat.text("hello\n");
  bdh::test::write_file(chat.directory / "generation_config.json", R"({"num_return_sequences": 3})");
  CHECK(chat.text("hello\n") == once);
  CHECK(chat.run("hello\n").err.find("a chat has one reply") != std::string::npos);
  bdh::test::write_file(chat.directory / "generation_config.json", R"({"guidance_scale": 3})");
  const CommandResult refused = chat.run("hello\n");
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("guidance_scale 3") != std::string::npos);
}

TEST_CASE("bdh chat: past the model's block it warns once, and not where there is a horizon") {
  const ChatRun chat;
  bdh::test::write_file(chat.directory / "training_args.json", R"({"block_size": 24})");
  const std::string lines = "first\nsecond\nthird\nfourth\nfifth";
  const std::string err = chat.run(lines).err;
  const size_t at = err.find("goes past the 24 tokens of a block");
  REQUIRE(at != std::string::npos);
  CHECK(err.find("goes past", at + 9) == std::string::npos);
  CHECK(chat.run(lines, {"--greedy", "-n", "9", "--horizon", "6"}).err.find("goes past") ==
        std::string::npos);
}

TEST_CASE("bdh chat: a kept session goes on as if it had never stopped") {
  const ChatRun chat;
  const std::string kept = (chat.directory / "kept").string();
  const std::string whole = chat.text("first\nsecond\nthird\nfourth", {"--seed", "4", "-n", "9"});
  const std::string begin = chat.text("first\nsecond", {"--seed", "4", "-n", "9", "--save-session", kept});
  CHECK(begin + chat.text("third\nfourth", {"-n", "9", "--load-session", kept}) == whole);
}

TEST_CASE("bdh chat: no input, no output") {
  const ChatRun chat;
  CHECK(chat.text("").empty());
  CHECK(chat.text("/help\n/temp 0.5\n").empty());
}

TEST_CASE("bdh chat: /reset forgets") {
  const ChatRun chat;
  const std::string once = expected_replies(chat, {"hello"});
  CHECK(chat.text("hello\n/reset\nhello\n") == once + once);
}

TEST_CASE("bdh chat: /seed repeats replies, which otherwise differ") {
  const ChatRun chat;
  const std::vector<std::string> sampling{"-n", "30", "--temperature", "1", "--seed", "4"};
  const std::string once = chat.text("hello\n", sampling);
  CHECK(chat.text("hello\n/reset\n/seed 4\nhello\n", sampling) == once + once);
  CHECK(chat.text("hello\n/reset\n/seed 5\nhello\n", sampling) != once + once);
  CHECK(chat.text("/seed 9\n/seed 4\nhello\n", sampling) == once);
}

TEST_CASE("bdh chat: /temp and /top_k change how replies are drawn") {
  const ChatRun chat;
  const std::vector<std::string> sampling{"-n", "9", "--temperature", "5"};
  CHECK(chat.text("/temp 0\nhello\n", sampling) == expected_replies(chat, {"hello"}));
  CHECK(chat.text("/top_k 1\nhello\n", sampling) == expected_replies(chat, {"hello"}));
  CHECK(chat.text("/temp 5\nhello\n", {"-n", "60", "--greedy", "--seed", "1"}) !=
        chat.text("hello\n", {"-n", "60", "--greedy"}));
}

TEST_CASE("bdh chat: /quit ends it") {
  const ChatRun chat;
  CHECK(chat.text("/quit\nhello\n").empty());
}

TEST_CASE("bdh chat: a wrong command is a hint of one line") {
  const ChatRun chat;
  struct Wrong {
    std::string line, part;
  };
  const std::vector<Wrong> hints{{"/fly", "/help"},
                                 {"/temp", "/temp X"},
                                 {"/temp hot", "/temp X"},
                                 {"/temp -1", "/temp X"},
                                 {"/temp nan", "/temp X"},
                                 {"/temp 1 2", "/temp X"},
                                 {"/top_k 1.5", "/top_k K"},
                                 {"/top_k -1", "/top_k K"},
                                 {"/seed x", "/seed S"},
                                 {"/seed -1", "/seed S"},
                                 {"/reset all", "/reset"},
                                 {"/quit now", "/quit"},
                                 {"/", "/help"},
                                 {"/\x1b[2J", "/help"}};
  for (const Wrong& wrong : hints) {
    const CommandResult result = chat.run(wrong.line + "\n");
    CAPTURE(wrong.line);
    CHECK(result.exit_code == 0);
    CHECK(result.out.empty());
    const std::string hint = result.err.substr(result.err.find('\n') + 1);
    CHECK_MESSAGE(has(hint, wrong.part), hint);
    CHECK(hint.find('\n') == hint.size() - 1);
    CHECK(!has(hint, "\x1b"));
  }
}

TEST_CASE("bdh chat: commands may be spaced, and print their answers on stderr") {
  const ChatRun chat;
  CHECK(has(chat.run("/temp   0.25  \n").err, "temperature 0.25"));
  CHECK(has(chat.run("/top_k\t7\n").err, "top_k 7"));
  CHECK(has(chat.run("/help\n").err, "/reset"));
}
