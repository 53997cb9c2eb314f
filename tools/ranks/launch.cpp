// Reading what the launcher left in the environment, and opening the module of MPI.
#include "tools/ranks/launch.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "bdh/base/error.h"
#include "kernels/backends.h"
#include "tools/cli/output.h"
#include "tools/ranks/mpi_ranks.h"
#include "tools/ranks/rank_watch.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModule = "bdh_mpi.so";
constexpr int kPatience = 5'000;  // milliseconds for the ranks of a failed run to come together
constexpr auto kHeadStart = std::chrono::seconds(1);

/// What launchers tell each process. SLURM_NTASKS would be a whole job's, that of its script too.
struct Variables {
  const char *processes, *rank;
};
constexpr Variables kLaunchers[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                    {"PMI_SIZE", "PMI_RANK"},
                                    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};

std::optional<int> number_in(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr) return {};
  const std::string_view text = value;
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

struct Started {
  int processes = 1, rank = 0;
  const char* variable = nullptr;  // that says so
};

Started find_started() {
  for (const Variables& launcher : kLaunchers)
    if (const auto processes = number_in(launcher.processes))
      return {*processes, number_in(launcher.rank).value_or(0), launcher.processes};
  return {};
}

fs::path module_path() { return fs::read_symlink("/proc/self/exe").parent_path() / kModule; }

MpiEntry* open_module(const Started& started) {
  const fs::path path = module_path();
  // What MPI loads itself looks for symbols of MPI.
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr)
    fail(ErrorKind::unsupported, started.processes, " processes were started (", started.variable,
         "), which needs MPI, but this bdh is without: ", dlerror(),
         "; build with make MPI=ON, or start one process");
  void* entry = dlsym(module, kMpiEntry);
  if (entry == nullptr)
    fail(ErrorKind::unsupported, path.string(), ": not of this version of bdh: install both together");
  return reinterpret_cast<MpiEntry*>(entry);
}

MpiRanks& start_ranks(const Started& started) {
  MpiRanks* ranks = open_module(started)();
  if (ranks->size() != started.processes)
    fail(ErrorKind::io, started.variable, " says that ", started.processes,
         " processes were started, MPI finds ", ranks->size(),
         ": start them with the mpirun of Open MPI, or with srun --mpi=pmix");
  return *ranks;
}

/// Until it is lifted, nothing that the process prints is seen.
class Silence {
 public:
  Silence() : stderr_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nothing, STDOUT_FILENO);
    dup2(nothing, STDERR_FILENO);
    close(nothing);
  }
  void lift() const { dup2(stderr_, STDERR_FILENO); }

 private:
  int stderr_;
};

}  // namespace

struct Launch::Several {
  explicit Several(const Started& started) : silence(silence_of(started)), mpi(start(started)) {}

  std::optional<Silence> silence;  // of ranks but the first
  MpiRanks& mpi;
  RankWatch watch{others()};

  static std::optional<Silence> silence_of(const Started& started) {
    return started.rank > 0 ? std::optional<Silence>(std::in_place) : std::nullopt;
  }

  /// The first is given the time to say what is wrong: launchers end all when one ends.
  static MpiRanks& start(const Started& started) {
    try {
      return start_ranks(started);
    } catch (const Error&) {
      if (started.rank > 0) std::this_thread::sleep_for(kHeadStart);
      throw;
    }
  }

  std::vector<RankProcess> others() const {
    std::vector<RankProcess> processes = mpi.neighbours();
    std::erase_if(processes, [&](const RankProcess& one) { return one.rank == mpi.rank(); });
    return processes;
  }

  int local_rank() const {
    const auto& all = mpi.neighbours();
    return static_cast<int>(
        std::ranges::count_if(all, [&](const RankProcess& one) { return one.rank < mpi.rank(); }));
  }

  void speak() const {
    if (silence) silence->lift();
  }

  static std::string words_of(const std::function<std::string()>& remedy) {
    try {
      return remedy();
    } catch (const std::exception& error) {
      return error.what();
    }
  }

  /// Where another rank than the first has ended, the first says so. The others outlast who says it: of
  /// several that have ended the last in order is the cause (RankWatch::start).
  [[noreturn]] void end(int ended, const std::function<std::string()>& remedy) const {
    const int teller = ended == 0 ? 1 : 0;
    if (mpi.rank() == teller) {
      speak();
      say_error(concat("rank ", ended, " has ended; ", words_of(remedy)));
    } else {
      watch.wait_for_end(teller, kPatience);
    }
    _exit(1);
  }

  bool all_come() const {
    try {
      return mpi.all_come(kPatience);
    } catch (const Error&) {
      return false;
    }
  }

  /// A failure that all ranks know of is told by the first alone; one that only this rank knows of, by it.
  void leave() {
    const bool all_know = all_come();
    watch.stop();
    if (!all_know) return speak();
    all_come();  // none ends before the last has stopped to watch
    if (mpi.rank() != 0) watch.wait_for_end(0, kPatience);
  }
};

Launch::Launch() {
  const Started started = find_started();
  if (started.processes > 1)
    several_ = std::make_unique<Several>(started);
  else
    single_ = single_rank();
}

Launch::~Launch() = default;

Ranks& Launch::ranks() { return several_ ? static_cast<Ranks&>(several_->mpi) : *single_; }

int Launch::threads(int asked) const { return several_ && asked == 0 ? several_->mpi.cores() : asked; }

std::string Launch::device(const std::string& asked) const {
  const bool open = asked == "cuda" || asked == "auto";
  const int gpus = several_ && open ? usable_gpus() : 0;
  return gpus > 0 ? concat("cuda:", several_->local_rank() % gpus) : asked;
}

void Launch::run(const std::function<void()>& body, const std::function<std::string()>& remedy) {
  if (!several_) return body();
  several_->watch.start([this, &remedy](int ended) { several_->end(ended, remedy); });
  try {
    body();
    several_->mpi.barrier();
  } catch (...) {
    several_->leave();
    throw;
  }
  several_->watch.stop();
  several_->mpi.finish();
}

}  // namespace bdh::tools
