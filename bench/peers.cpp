// Talking to the peer's process over a socket pair, which unlike a pipe raises no signal when the other end
// is gone.
#include "bench/peers.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "bdh/base/error.h"

namespace bdh::bench {

namespace {

constexpr const char* kRefusal = "error: ";

pid_t spawn(const std::vector<std::string>& command, int socket, int other) {
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addclose(&actions, other);
  posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, socket, STDOUT_FILENO);
  pid_t process = -1;
  const int error = posix_spawnp(&process, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? process : -1;
}

}  // namespace

Peer::Peer(const std::vector<std::string>& command) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    fail(ErrorKind::io, "no socket pair for the peer");
  socket_ = ends[0];
  process_ = spawn(command, ends[1], ends[0]);
  close(ends[1]);
  try {
    greeting_ = read_line();
  } catch (const Error&) {
    stop();
    fail(ErrorKind::unsupported, command.front(), " did not start; its reason stands above");
  }
}

Peer::~Peer() { stop(); }

void Peer::stop() {
  close(socket_);
  if (process_ > 0) waitpid(process_, nullptr, 0);
}

std::string Peer::read_line() {
  for (;;) {
    const size_t end = unread_.find('\n');
    if (end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> some{};
    const ssize_t count = recv(socket_, some.data(), some.size(), 0);
    if (count <= 0) fail(ErrorKind::io, "the peer has stopped; its reason stands above");
    unread_.append(some.data(), static_cast<size_t>(count));
  }
}

std::string Peer::ask(const std::string& question) {
  const std::string line = question + "\n";
  if (send(socket_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    fail(ErrorKind::io, "the peer has stopped; its reason stands above");
  }
  std::string answer = read_line();
  if (answer.rfind(kRefusal, 0) == 0)
    fail(ErrorKind::unsupported, "peer: ", answer.substr(std::string(kRefusal).size()));
  return answer;
}

std::vector<Case> peer_cases(const std::shared_ptr<Peer>& peer, int threads) {
  const auto one = [&](const char* name, const char* shape, const std::string& question, double tokens) {
    return Case{.kind = Kind::peer,
                .name = name,
                .shape = shape,
                .dtype = "f32",
                .threads = threads,
                .seconds = 0.3,
                .run = [=](benchmark::State& state) {
                  while (state.KeepRunning()) state.SetIterationTime(std::stod(peer->ask(question)));
                  return Work{.tokens = tokens};
                }};
  };
  return {one(kPeerForward, "default, 512 tokens", "forward 512", 512),
          one(kPeerRecompute, "default, at 512", "recompute 512", 1),
          one(kPeerCached, "default, at 512", "cached 512", 1)};
}

}  // namespace bdh::bench
