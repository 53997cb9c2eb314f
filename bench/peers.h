// What does the same job elsewhere: PyTorch, in a process of its own that answers line by line
// (bench/pytorch.py). Knows how to ask; nothing of what the answers are compared with.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bench/case.h"

namespace bdh::bench {

/// A program that answers every line with one line.
class Peer {
 public:
  /// Starts it and waits for its first line. Throws Error(unsupported) when there is none.
  explicit Peer(const std::vector<std::string>& command);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// What it said first: "torch 2.4.0".
  const std::string& greeting() const { return greeting_; }
  /// Throws Error(io) when it has died, Error(unsupported) with its words when it refuses.
  std::string ask(const std::string& question);

 private:
  std::string read_line();
  void stop();
  int socket_ = -1;
  pid_t process_ = -1;
  std::string unread_;
  std::string greeting_;
};

// The peers' cases: reading 512 tokens at once, doing that again for one more token, and one token against a
// state.
constexpr const char* kPeerForward = "PyTorch forward";
constexpr const char* kPeerRecompute = "PyTorch recompute";
constexpr const char* kPeerCached = "PyTorch cached decode";

std::vector<Case> peer_cases(const std::shared_ptr<Peer>& peer, int threads);

}  // namespace bdh::bench
