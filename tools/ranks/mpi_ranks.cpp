// bdh_mpi.so: the ranks of a training run over MPI. Waiting is a loop of its own: those of MPI spin, and take
// a core from a rank that computes.
#include "tools/ranks/mpi_ranks.h"

#define OMPI_SKIP_MPICXX  // C++ bindings, which MPI has given up
#include <mpi.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>
#include <thread>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

using Clock = std::chrono::steady_clock;

// MPI counts in int, and more than 2^31 bytes are sent in any case.
constexpr size_t kPieceBytes = size_t{16} << 20;
constexpr auto kEager = std::chrono::milliseconds(1);  // then it sleeps between two looks
constexpr auto kSleep = std::chrono::microseconds(100);

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(ErrorKind::io, "MPI: ", what, ": ", std::string_view(text, static_cast<size_t>(length)));
}

/// False where it is not done at that time.
bool wait_until(Clock::time_point last, MPI_Request& request, const char* what) {
  const auto eager_until = Clock::now() + kEager;
  while (true) {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
    const auto now = Clock::now();
    if (done || now > last) return done;
    if (now < eager_until)
      sched_yield();
    else
      std::this_thread::sleep_for(kSleep);
  }
}

void wait_for(MPI_Request& request, const char* what) { wait_until(Clock::time_point::max(), request, what); }

/// start(piece, count, request) for each piece of the bytes, one after the other.
template <class Byte, class Start>
void in_pieces(std::span<Byte> bytes, const char* what, const Start& start) {
  while (!bytes.empty()) {  // NOLINT(clang-analyzer-optin.mpi.MPI-Checker): it is tested, not waited for
    const std::span<Byte> piece = bytes.first(std::min(bytes.size(), kPieceBytes));
    bytes = bytes.subspan(piece.size());
    MPI_Request request = MPI_REQUEST_NULL;
    check(start(piece.data(), static_cast<int>(piece.size()), &request), what);
    wait_for(request, what);
  }
}

/// The ranks of one machine.
class Machine {
 public:
  explicit Machine(int rank) {
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &ranks_),
          "finding the ranks of this machine");
    find_neighbours(rank);
    share_cores();
  }

  const std::vector<RankProcess>& neighbours() const { return neighbours_; }
  int cores() const { return cores_; }

 private:
  struct Place {
    RankProcess process;
    ino_t names;  // of the namespace that numbers processes
  };

  static Place place_of(int rank) {
    struct stat names = {};
    stat("/proc/self/ns/pid", &names);
    return {{rank, getpid()}, names.st_ino};
  }

  void find_neighbours(int rank) {
    int size = 0;
    check(MPI_Comm_size(ranks_, &size), "counting the ranks of this machine");
    std::vector<Place> places(static_cast<size_t>(size));
    const Place mine = place_of(rank);
    check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, places.data(), sizeof mine, MPI_BYTE, ranks_),
          "finding the ranks of this machine");
    for (const Place& place : places)
      neighbours_.push_back({place.process.rank, place.names == mine.names ? place.process.process : 0});
  }

  /// Those that any of its ranks may use, divided; a rank that is bound to fewer has those.
  void share_cores() {
    cpu_set_t mine, all;
    CPU_ZERO(&mine);
    CPU_ZERO(&all);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0) return;
    check(MPI_Allreduce(&mine, &all, sizeof mine, MPI_BYTE, MPI_BOR, ranks_), "dividing the cores");
    const int share = CPU_COUNT(&all) / static_cast<int>(neighbours_.size());
    cores_ = std::max(1, std::min(CPU_COUNT(&mine), share));
  }

  MPI_Comm ranks_ = MPI_COMM_NULL;
  std::vector<RankProcess> neighbours_;
  int cores_ = 1;
};

int size_of_world() {
  int size = 0;
  check(MPI_Comm_size(MPI_COMM_WORLD, &size), "counting the ranks");
  return size;
}

int rank_in_world() {
  int rank = 0;
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "finding the rank");
  return rank;
}

class World : public MpiRanks {
 public:
  World() : rank_(rank_in_world()), size_(size_of_world()), machine_(rank_) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::vector<RankProcess>& neighbours() const override { return machine_.neighbours(); }
  int cores() const override { return machine_.cores(); }

  void send(std::span<const std::byte> bytes, int to) override {
    in_pieces(bytes, "sending", [&](const std::byte* piece, int count, MPI_Request* request) {
      return MPI_Isend(piece, count, MPI_BYTE, to, 0, MPI_COMM_WORLD, request);
    });
  }

  void receive(std::span<std::byte> bytes, int from) override {
    in_pieces(bytes, "receiving", [&](std::byte* piece, int count, MPI_Request* request) {
      return MPI_Irecv(piece, count, MPI_BYTE, from, 0, MPI_COMM_WORLD, request);
    });
  }

  void broadcast(std::span<std::byte> bytes) override {
    in_pieces(bytes, "broadcasting", [&](std::byte* piece, int count, MPI_Request* request) {
      return MPI_Ibcast(piece, count, MPI_BYTE, 0, MPI_COMM_WORLD, request);
    });
  }

  void barrier() override { come(MPI_COMM_WORLD, Clock::time_point::max()); }
  bool all_come(int milliseconds) override {
    return come(ending_, Clock::now() + std::chrono::milliseconds(milliseconds));
  }
  void finish() override { check(MPI_Finalize(), "ending"); }

 private:
  static bool come(MPI_Comm ranks, Clock::time_point last) {
    constexpr const char* kWhat = "waiting for the ranks";
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibarrier(ranks, &request), kWhat);
    return wait_until(last, request, kWhat);
  }

  static MPI_Comm all_ranks_again() {
    MPI_Comm again = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &again), "preparing to end");
    return again;
  }

  int rank_, size_;
  Machine machine_;
  MPI_Comm ending_ = all_ranks_again();  // where others may yet exchange
};

}  // namespace
}  // namespace bdh::tools

extern "C" bdh::tools::MpiRanks* bdh_mpi_ranks() {
  int threads = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &threads) != MPI_SUCCESS)
    bdh::fail(bdh::ErrorKind::io, "MPI does not start");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  return std::make_unique<bdh::tools::World>().release();
}
