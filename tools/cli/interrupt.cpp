// Ctrl-C as a flag that long work looks at.
#include "tools/cli/interrupt.h"

#include <signal.h>

#include <atomic>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

void catch_interrupts() {
  flag = false;
  struct sigaction action = {};
  action.sa_handler = [](int) { flag = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
}

bool interrupted() { return flag; }

void stop_if_interrupted() {
  if (flag) fail(ErrorKind::cancelled, "interrupted");
}

}  // namespace bdh::tools
