// `bdh validate`: checks a model directory, a line for each thing looked at; exit code 1 when one failed.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/pretrained/validate.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

std::string to_line(const Check& check) {
  char start[40];
  std::snprintf(start, sizeof start, "%-8s %-11s ", std::string(name_of(check.verdict)).c_str(),
                check.name.c_str());
  return start + one_line(check.detail) + "\n";
}

Json to_json(const std::string& path, const std::vector<Check>& checks, bool valid) {
  Json::Array list;
  for (const Check& check : checks) {
    Json entry;
    entry.set("name", check.name);
    entry.set("verdict", name_of(check.verdict));
    entry.set("detail", check.detail);
    list.push_back(std::move(entry));
  }
  Json json;
  json.set("path", path);
  json.set("valid", valid);
  json.set("checks", std::move(list));
  return json;
}

void run(const CommonOptions& options) {
  Progress progress("checking", "bytes");
  ValidateOptions validation;
  validation.device = options.device;
  validation.threads = options.threads;
  validation.progress = [&](uint64_t done, uint64_t total) {
    return progress.update(static_cast<int64_t>(done), static_cast<int64_t>(total));
  };
  validation.on_check = [&](const Check& check) {
    progress.erase();
    if (!options.json) write_out(to_line(check));
  };
  const std::vector<Check> checks = validate(options.directory, validation);
  const auto failed = std::count_if(checks.begin(), checks.end(),
                                    [](const Check& check) { return check.verdict == Verdict::failed; });
  if (options.json) write_out(to_json(options.directory, checks, failed == 0).dump(2) + "\n");
  if (failed > 0)
    fail(ErrorKind::bad_file, "'", options.directory, "': ", failed, " of ", checks.size(), " checks failed");
}

}  // namespace

void add_validate(Command& program) {
  const auto options = std::make_shared<CommonOptions>();
  Command command =
      program.subcommand("validate", "Check a model directory: files, tensors, values, hashes, tokenizer");
  add_model_options(command, *options);
  add_json_option(command, *options);
  command.footer("Example: bdh validate model && bdh chat model");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
