// Three ranks of bdh_mpi.so that exchange messages longer than its pieces: mpirun -n 3 PROGRAM MODULE.
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "tools/ranks/mpi_ranks.h"

namespace {

using bdh::tools::MpiEntry;
using bdh::tools::MpiRanks;
using Bytes = std::vector<std::byte>;

constexpr size_t kLong = (size_t{40} << 20) + 3;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "mpi_ranks_program: %s\n", what);
  std::exit(1);
}

MpiRanks& open_ranks(const char* path) {
  void* module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  require(module != nullptr, "the module does not open");
  void* entry = dlsym(module, bdh::tools::kMpiEntry);
  require(entry != nullptr, "the module has no entry");
  return *reinterpret_cast<MpiEntry*>(entry)();
}

Bytes made_by(int rank, size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((i >> 12) + i * 7 + 31 * static_cast<size_t>(rank));
  return bytes;
}

void check_machine(const MpiRanks& ranks) {
  const auto& all = ranks.neighbours();
  require(ranks.size() == 3 && all.size() == 3, "there are three ranks on this machine");
  for (size_t i = 0; i < all.size(); ++i)
    require(all[i].rank == static_cast<int>(i), "neighbours are in order");
  require(all[static_cast<size_t>(ranks.rank())].process == getpid(), "each rank is its own process");
  require(ranks.cores() >= 1, "there is a core for each rank");
}

/// From each rank to the next.
void send_around(MpiRanks& ranks, size_t size) {
  const int next = (ranks.rank() + 1) % 3, before = (ranks.rank() + 2) % 3;
  const Bytes sent = made_by(ranks.rank(), size);
  Bytes received(size);
  if (ranks.rank() == 0) ranks.send(sent, next);
  ranks.receive(received, before);
  if (ranks.rank() != 0) ranks.send(sent, next);
  require(received == made_by(before, size), "what was sent arrives");
}

void send_in_order(MpiRanks& ranks) {
  for (int i = 0; i < 100; ++i) {
    std::array<std::byte, 1> number{static_cast<std::byte>(i)};
    if (ranks.rank() == 2) ranks.send(number, 1);
    if (ranks.rank() != 1) continue;
    ranks.receive(number, 2);
    require(number[0] == static_cast<std::byte>(i), "messages arrive in order");
  }
}

void broadcast(MpiRanks& ranks, size_t size) {
  Bytes bytes = made_by(ranks.rank(), size);
  ranks.broadcast(bytes);
  require(bytes == made_by(0, size), "all get what rank 0 has");
}

}  // namespace

int main(int count, char** arguments) {
  require(count == 2, "usage: mpirun -n 3 mpi_ranks_program MODULE");
  MpiRanks& ranks = open_ranks(arguments[1]);
  check_machine(ranks);
  for (const size_t size : {size_t{0}, size_t{1}, kLong}) {
    send_around(ranks, size);
    broadcast(ranks, size);
  }
  send_in_order(ranks);
  ranks.barrier();
  require(ranks.all_come(60'000), "all ranks come");
  ranks.finish();
}
