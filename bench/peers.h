// What does the same job elsewhere: PyTorch, in a process of its own that answers line by line
// (bench/pytorch.py).
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bench/options.h"
#include "bench/source.h"

namespace bdh::bench {

/// A program that answers every line with one line.
class Peer {
 public:
  /// Starts it and waits for its first line. Throws Error(unsupported) when there is none, or when it
  /// refuses. patience: as set_patience.
  explicit Peer(const std::vector<std::string>& command, double patience = 0);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// What it said first: "torch 2.4.0".
  const std::string& greeting() const { return greeting_; }
  /// The seconds that it has for each line from now on; 0: for ever. Then it is killed.
  void set_patience(double seconds) const;
  /// Throws Error(io) when it has died or was killed, Error(unsupported) with its words when it refuses.
  std::string ask(const std::string& question);
  /// The numbers of an answer.
  std::vector<double> ask_numbers(const std::string& question);

 private:
  std::string read_line();
  void stop(bool kill_it);
  int socket_ = -1;
  pid_t process_ = -1;
  std::string unread_;
  std::string greeting_;
};

/// Writes the source's model to options.scratch and starts PyTorch on it on that device ("cpu", "cuda:0").
/// Null, and the reason in *why, when there is none; else *why is its greeting. patience: for the greeting
/// and then, as Peer::set_patience.
std::shared_ptr<Peer> start_peer(const Options& options, const Source& source, const std::string& device,
                                 int threads, double patience, std::string* why);

/// A sentence for the notes: how far the logits of some tokens, read through our session and by the peer
/// (parallel and cached), lie apart, as a share of the largest.
std::string agreement(Peer& peer, Subject& subject, DType dtype);

}  // namespace bdh::bench
