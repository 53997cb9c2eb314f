// Talking to a peer: its lines, its refusals, its end, and a peer that takes too long. Peers are shell
// scripts.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bench/peers.h"

using bdh::Error;
using bdh::bench::Peer;

namespace {

std::vector<std::string> script(const std::string& text) { return {"/bin/sh", "-c", text}; }

}  // namespace

TEST_CASE("bench peers: greeting, answers and numbers") {
  Peer peer(script("echo hello; while read -r line; do echo \"$line 2.5 -1e-3\"; done"));
  CHECK(peer.greeting() == "hello");
  CHECK(peer.ask("7") == "7 2.5 -1e-3");
  CHECK(peer.ask_numbers("1") == std::vector<double>{1, 2.5, -1e-3});
}

TEST_CASE("bench peers: a refusal is an error with its words, and the next question is answered") {
  Peer peer(script("echo hello; read -r line; echo error: too large; read -r line; echo fine"));
  CHECK_THROWS_WITH_AS(peer.ask("a"), "peer: too large", Error);
  CHECK(peer.ask("b") == "fine");
  CHECK_THROWS_AS(peer.ask("c"), Error);
}

TEST_CASE("bench peers: one that refuses or does not start") {
  CHECK_THROWS_WITH_AS(Peer(script("echo error: no torch")), "no torch", Error);
  CHECK_THROWS_AS(Peer({"/no/such/program"}), Error);
}

TEST_CASE("bench peers: one that takes too long is stopped") {
  const auto start = std::chrono::steady_clock::now();
  {
    Peer peer(script("echo hello; exec sleep 60"));
    peer.set_patience(0.1);
    CHECK_THROWS_WITH_AS(peer.ask("a"), "the peer had no answer when the time was over", Error);
    CHECK_THROWS_AS(peer.ask("b"), Error);
    CHECK_THROWS_AS(peer.set_patience(1), Error);
  }
  CHECK_THROWS_AS(Peer(script("exec sleep 60"), 0.1), Error);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}
