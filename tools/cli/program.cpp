// The frame of a program: signals, and every failure as one line and an exit code.
#include "tools/cli/program.h"

#include <signal.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string_view>

#include "bdh/base/error.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/options.h"
#include "tools/cli/output.h"

namespace bdh::tools {
namespace {

constexpr int kDone = 0, kFailed = 1, kWrongUsage = 2, kSignal = 128;

void report(const std::string& name, std::string_view message) {
  std::fprintf(stderr, "%s: error: %s\n", name.c_str(), one_line(message).c_str());
}

int report_error(const std::string& name, const Error& error) {
  if (error.kind() == ErrorKind::cancelled) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), caught_signal() == SIGTERM ? "terminated" : "interrupted");
    return kSignal + (caught_signal() == SIGTERM ? SIGTERM : SIGINT);
  }
  report(name, error.what());
  return kFailed;
}

}  // namespace

int run_program(const std::string& name, const std::function<void()>& body) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  catch_interrupts();
  try {
    body();
    return kDone;
  } catch (const UsageError& error) {
    report(name, error.what());
    return kWrongUsage;
  } catch (const Error& error) {
    return report_error(name, error);
  } catch (const ClosedPipe&) {
    return kFailed;
  } catch (const std::bad_alloc&) {
    report(name, "out of memory");
  } catch (const std::exception& error) {
    report(name, error.what());
  }
  return kFailed;
}

}  // namespace bdh::tools
