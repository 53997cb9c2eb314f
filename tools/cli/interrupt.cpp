// Ctrl-C and SIGTERM as a flag that long work looks at.
#include "tools/cli/interrupt.h"

#include <signal.h>

#include <atomic>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

std::atomic<int> caught{0};
std::atomic<bool> hung_up{false};
static_assert(std::atomic<int>::is_always_lock_free);

void set_flag(int number) {
  caught = number;
  signal(SIGINT, SIG_DFL);
  if (number == SIGINT) signal(SIGTERM, SIG_DFL);
}

void set_hung_up(int) { hung_up = true; }

void catch_signal(int number, void (*handler)(int) = set_flag) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, nullptr);
}

}  // namespace

void catch_interrupts() {
  caught = 0;
  catch_signal(SIGINT);
}

void catch_terminations() { catch_signal(SIGTERM); }

void catch_hangups() { catch_signal(SIGHUP, set_hung_up); }

bool take_hangup() { return hung_up.exchange(false); }

bool interrupted() { return caught != 0; }

int caught_signal() { return caught; }

void stop_if_interrupted() {
  if (interrupted()) fail(ErrorKind::cancelled, "interrupted");
}

}  // namespace bdh::tools
