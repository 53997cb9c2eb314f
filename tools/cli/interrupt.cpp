// Ctrl-C and SIGTERM as a flag that long work looks at.
#include "tools/cli/interrupt.h"

#include <signal.h>

#include <atomic>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

std::atomic<int> caught{0};
static_assert(std::atomic<int>::is_always_lock_free);

void set_flag(int number) {
  caught = number;
  signal(SIGINT, SIG_DFL);
  if (number == SIGINT) signal(SIGTERM, SIG_DFL);
}

void catch_signal(int number) {
  struct sigaction action = {};
  action.sa_handler = set_flag;
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, nullptr);
}

}  // namespace

void catch_interrupts() {
  caught = 0;
  catch_signal(SIGINT);
}

void catch_terminations() { catch_signal(SIGTERM); }

bool interrupted() { return caught != 0; }

int caught_signal() { return caught; }

void stop_if_interrupted() {
  if (interrupted()) fail(ErrorKind::cancelled, "interrupted");
}

}  // namespace bdh::tools
