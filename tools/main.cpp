// The `bdh` command: lists the subcommands and runs the one that was asked for.
#include "bdh/base/error.h"
#include "bdh/base/version.h"
#include "tools/cli/program.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

void parse_and_run(int argc, char** argv) {
  Program program("bdh", "Runs BDH language models.", concat("bdh ", kVersion));
  program.footer("Each subcommand explains itself: bdh generate --help");
  for (const auto add : {add_generate, add_chat, add_train, add_checkpoints, add_logits, add_gradients,
                         add_eval, add_horizon, add_inspect, add_convert, add_quantize, add_adapter,
                         add_tokenize, add_memory, add_models, add_validate})
    add(program);
#ifdef BDH_SERVE
  add_serve(program);
#endif
  program.parse_and_run(argc, argv);
}

}  // namespace
}  // namespace bdh::tools

int main(int argc, char** argv) {
  return bdh::tools::run_program("bdh", [&] { bdh::tools::parse_and_run(argc, argv); });
}
