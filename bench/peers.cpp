// Talking to the peer's process over a socket pair, which unlike a pipe raises no signal when the other end
// is gone.
#include "bench/peers.h"

#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/json.h"
#include "bdh/formats/safetensors.h"

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

void write(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

/// The model and text that the peer reads: a model directory and tokens.json.
void write_for_peer(const std::filesystem::path& directory, const Source& source) {
  std::filesystem::create_directories(directory);
  write(directory / "config.json", source.config.to_json().dump(2));
  write_safetensors(directory / "model.safetensors", source.state_dict, {});
  Json::Array tokens;
  for (const int32_t token : source.text) tokens.emplace_back(token);
  write(directory / "tokens.json", Json(std::move(tokens)).dump());
}

/// Where the peer's copy of a model lies; a temporary place goes when the peer has read it.
class Scratch {
 public:
  explicit Scratch(const std::filesystem::path& wanted) : temporary_(wanted.empty()) {
    path_ = temporary_ ? std::filesystem::temp_directory_path() / concat("bdh-bench-", getpid())
                       : wanted / "model";
  }
  ~Scratch() {
    std::error_code ignored;
    if (temporary_) std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  bool temporary_;
  std::filesystem::path path_;
};

/// Largest difference over largest logit.
double difference(const std::vector<float>& ours, const std::vector<double>& theirs) {
  if (ours.size() != theirs.size()) return INFINITY;
  double largest = 0, apart = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    largest = std::max(largest, std::abs(theirs[i]));
    apart = std::max(apart, std::abs(static_cast<double>(ours[i]) - theirs[i]));
  }
  return apart / largest;
}

}  // namespace

Peer::Peer(const std::vector<std::string>& command, double patience) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    fail(ErrorKind::io, "no socket pair for the peer");
  socket_ = ends[0];
  process_ = spawn(command, ends[1], ends[0]);
  close(ends[1]);
  try {
    set_patience(patience);
    greeting_ = read_line();
  } catch (const Error&) {
    stop(true);
    fail(ErrorKind::unsupported, command.front(), " did not start; its reason stands above");
  }
  if (greeting_.rfind(kRefusal, 0) != 0) return;
  stop(false);
  fail(ErrorKind::unsupported, greeting_.substr(std::string(kRefusal).size()));
}

Peer::~Peer() { stop(false); }

// It ends by itself when nobody can ask it any more.
void Peer::stop(bool kill_it) {
  if (socket_ >= 0) close(std::exchange(socket_, -1));
  if (process_ <= 0) return;
  if (kill_it) kill(process_, SIGKILL);
  waitpid(std::exchange(process_, -1), nullptr, 0);
}

void Peer::set_patience(double seconds) const {
  const auto whole = static_cast<time_t>(seconds);
  const timeval time{whole, static_cast<suseconds_t>((seconds - static_cast<double>(whole)) * 1e6)};
  if (setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) != 0)
    fail(ErrorKind::io, "the peer has stopped; its reason stands above");
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
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      stop(true);
      fail(ErrorKind::io, "the peer had no answer when the time was over");
    }
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

std::vector<double> Peer::ask_numbers(const std::string& question) {
  const std::string answer = ask(question);
  std::vector<double> numbers;
  const char* at = answer.c_str();
  for (char* end = nullptr;; at = end) {
    const double value = std::strtod(at, &end);
    if (end == at) return numbers;
    numbers.push_back(value);
  }
}

std::shared_ptr<Peer> start_peer(const Options& options, const Source& source, const std::string& device,
                                 int threads, double patience, std::string* why) {
  *why = "none was asked for";
  if (options.python.empty()) return nullptr;
  try {
    if (!std::filesystem::exists(options.script))
      fail(ErrorKind::not_found, "there is no ", options.script.string(),
           " (run from the repository, or name it with --peer)");
    const Scratch scratch(options.scratch);
    write_for_peer(scratch.path(), source);
    auto peer = std::make_shared<Peer>(
        std::vector<std::string>{options.python, options.script.string(), scratch.path().string(), "--device",
                                 device, "--threads", std::to_string(threads)},
        patience);
    *why = peer->greeting();
    return peer;
  } catch (const std::exception& error) {
    *why = concat("none: ", error.what());
    return nullptr;
  }
}

std::string agreement(Peer& peer, Subject& subject, DType dtype) {
  constexpr int64_t kTokens = 64;
  Session session(subject.weights());
  const std::vector<float> ours = session.read(subject.tokens(0, kTokens));
  const std::string name = option_name(dtype);
  char text[160];
  std::snprintf(text, sizeof text,
                "%s: after %d tokens the peer's logits lie %.1e of the largest from ours (cached decode: "
                "%.1e).",
                name.c_str(), static_cast<int>(kTokens),
                difference(ours, peer.ask_numbers(concat("logits ", name, ' ', kTokens, " 1"))),
                difference(ours, peer.ask_numbers(concat("cached_logits ", name, ' ', kTokens, " 1"))));
  return text;
}

}  // namespace bdh::bench
