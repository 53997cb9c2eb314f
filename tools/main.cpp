// The `bdh` command: parses, runs a subcommand, and turns every failure into one line and an exit code: 0
// done, 1 failed, 2 wrong usage, 130 interrupted.
#include <signal.h>

#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/base/version.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

constexpr int kFailed = 1, kWrongUsage = 2, kInterrupted = 130;

int report(std::string_view message) {
  std::fprintf(stderr, "bdh: error: %s\n", one_line(message).c_str());
  return kFailed;
}

int report(const Error& error) {
  if (error.kind() != ErrorKind::cancelled) return report(error.what());
  std::fprintf(stderr, "bdh: interrupted\n");
  return kInterrupted;
}

int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const std::string help = chosen.empty() ? "bdh --help" : "bdh " + chosen.front()->get_name() + " --help";
  report(std::string(error.what()) + " (see " + help + ")");
  return kWrongUsage;
}

void parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) write_out(app.help());
  } catch (const CLI::Success& asked) {  // --help, --version
    std::ostringstream text, nothing;
    app.exit(asked, text, nothing);
    write_out(text.str());
  }
}

int run(int argc, char** argv) {
  CLI::App app("Runs BDH language models.", "bdh");
  app.set_version_flag("--version", concat("bdh ", kVersion));
  app.require_subcommand(0, 1);
  app.footer("Each subcommand explains itself: bdh generate --help");
  add_generate(app);
  add_chat(app);
  add_logits(app);
  add_eval(app);
  add_inspect(app);
  add_convert(app);
  add_tokenize(app);
  add_memory(app);
  add_models(app);
  add_validate(app);
  add_bench(app);
  try {
    parse_and_run(app, argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  } catch (const Error& error) {
    return report(error);
  } catch (const ClosedPipe&) {
    return kFailed;
  } catch (const std::bad_alloc&) {
    return report("out of memory");
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

}  // namespace
}  // namespace bdh::tools

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  bdh::tools::catch_interrupts();
  return bdh::tools::run(argc, argv);
}
