// `bdh models`: a registry of models and their versions.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "tools/command.h"
#include "tools/registry/registry.h"

namespace bdh::tools {
namespace {

constexpr size_t kMaxMetadataBytes = 16'000'000;

struct Options {
  std::string registry;
  std::string name, version, path, which;
  std::vector<std::string> metadata;
  std::string metadata_file;
  bool json = false;
};

void warn_all(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) warn(warning);
}

/// The file's members, then those given as KEY=VALUE.
Json metadata_of(const Options& options) {
  Json metadata = Json::Object{};
  if (!options.metadata_file.empty())
    metadata = Json::parse(read_input(options.metadata_file, kMaxMetadataBytes), options.metadata_file);
  if (!metadata.is_object())
    fail(ErrorKind::bad_file, options.metadata_file, ": --metadata-file must hold a JSON object");
  for (const std::string& pair : options.metadata) {
    const size_t equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos)
      fail(ErrorKind::invalid_argument, "--metadata must be KEY=VALUE, not '", pair, "'");
    metadata.set(std::string_view(pair).substr(0, equals), pair.substr(equals + 1));
  }
  return metadata;
}

void run_register(const Options& options) {
  ModelRegistry registry(options.registry);
  warn_all(registry.add(options.name, options.version, options.path, metadata_of(options)));
  write_out(concat("registered ", options.name, ":", options.version, "\n"));
}

void run_path(const Options& options) {
  const ModelRegistry registry(options.registry);
  write_out(registry.locate(registry.named(options.which)).string() + "\n");
}

void run_remove(const Options& options) {
  ModelRegistry registry(options.registry);
  if (options.which.find(':') == std::string::npos)
    fail(ErrorKind::invalid_argument, "name the version to forget: ", options.which, ":VERSION");
  const RegistryEntry entry = registry.named(options.which);
  warn_all(registry.remove(entry.name, entry.version));
  write_out(concat("removed ", entry.name, ":", entry.version, "; its files are still in ",
                   registry.locate(entry).string(), "\n"));
}

/// As the registry's file has it, versions in order.
std::string list_json(const std::vector<RegistryEntry>& entries) {
  Json models = Json::Object{};
  for (const RegistryEntry& entry : entries) {
    Json json;
    json.set("path", entry.path).set("metadata", entry.metadata).set("registered_at", entry.registered_at);
    Json versions = models.find(entry.name) ? *models.find(entry.name) : Json(Json::Object{});
    models.set(entry.name, versions.set(entry.version, std::move(json)));
  }
  return models.dump(2) + "\n";
}

std::string list_text(const std::vector<RegistryEntry>& entries) {
  size_t width = 0;
  for (const RegistryEntry& entry : entries)
    width = std::max(width, entry.name.size() + entry.version.size() + 1);
  std::string lines;
  for (size_t i = 0; i < entries.size(); ++i) {
    const bool latest = i + 1 == entries.size() || entries[i + 1].name != entries[i].name;
    const std::string model = entries[i].name + ":" + entries[i].version;
    lines += model + std::string(width - model.size(), ' ') + (latest ? "  latest  " : "          ") +
             entries[i].registered_at + "  " + entries[i].path + "\n";
  }
  return lines;
}

void run_list(const Options& options) {
  const std::vector<RegistryEntry> entries = ModelRegistry(options.registry).list();
  write_out(options.json ? list_json(entries) : list_text(entries));
}

Command add_action(Command& models, const std::shared_ptr<Options>& options, const char* name,
                   const char* description, void (*run)(const Options&)) {
  Command action = models.subcommand(name, description);
  action.option("--registry", &options->registry,
                "the registry's file; $BDH_REGISTRY, or ./model_registry.json, is the default");
  action.run([options, run] { run(*options); });
  return action;
}

}  // namespace

void add_models(Command& program) {
  auto options = std::make_shared<Options>();
  options->registry = default_registry();
  Command models = program.subcommand("models", "Keep a registry of models and their versions");
  models.subcommand_required();
  models.footer(
      "Example: bdh models register poet v1.0 models/poet/v1.0 --metadata dataset=plays\n"
      "         bdh generate $(bdh models path poet) --prompt \"ROMEO:\"");

  Command add = add_action(models, options, "register",
                           "Add a version, or replace it, and set the link `latest` beside it", run_register);
  add.option("NAME", &options->name, "the model's name").required();
  add.option("VERSION", &options->version, "1, v1.0, 1.2.3-rc.1, ...").required();
  add.option("PATH", &options->path, "model directory, by custom models/NAME/VERSION").required();
  add.option("--metadata", &options->metadata, "KEY=VALUE, kept with the version; may be repeated");
  add.option("--metadata-file", &options->metadata_file, "JSON object kept with the version; - is stdin");
  add.footer("Example: bdh models register poet v1.0 models/poet/v1.0 --metadata dataset=plays");

  Command list =
      add_action(models, options, "list", "List every version, by name, the oldest first", run_list);
  list.flag("--json", &options->json, "print them as the registry's file holds them");
  list.footer("Example: bdh models list --json");

  Command path = add_action(models, options, "path", "Print the directory of a version", run_path);
  path.option("NAME", &options->which, "NAME, NAME:VERSION or NAME:latest; without a version the newest")
      .required();
  path.footer("Example: bdh generate $(bdh models path poet:v1.0) --prompt \"ROMEO:\"");

  Command remove = add_action(models, options, "remove", "Forget a version; its files stay", run_remove);
  remove.option("NAME", &options->which, "NAME:VERSION or NAME:latest").required();
  remove.footer("Example: bdh models remove poet:v1.0");
}

}  // namespace bdh::tools
