// Declaring and parsing options with CLI11.
#include "tools/cli/options.h"

#include <CLI/CLI.hpp>

#include <limits>
#include <sstream>
#include <string>
#include <utility>

#include "tools/cli/output.h"

namespace bdh::tools {
namespace {

template <class T>
CLI::Option* add(CLI::App& app, const std::string& names, T* target, const std::string& help) {
  return app.add_option(names, *target, help);
}

// Not CLI11's own conversion, to which "" is no value.
template <class T>
CLI::Option* add(CLI::App& app, const std::string& names, std::optional<T>* target, const std::string& help) {
  return app.add_option_function<T>(
      names, [target](const T& value) { *target = value; }, help);
}

CLI::Option* add(CLI::App& app, const std::string& names, std::vector<std::string>* target,
                 const std::string& help) {
  CLI::Option* option = app.add_option(names, *target, help);
  return option->allow_extra_args(option->get_positional());
}

std::unique_ptr<CLI::App> make_app(const std::string& name, const std::string& description,
                                   const std::string& version) {
  auto app = std::make_unique<CLI::App>(description, name);
  app->set_version_flag("--version", version);
  return app;
}

// "bdh models --help"
std::string help_command(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return app.get_name() + (chosen.empty() ? "" : " " + chosen.front()->get_name()) + " --help";
}

}  // namespace

Option& Option::required() {
  option_->required();
  return *this;
}

Option& Option::choices(std::initializer_list<const char*> values) {
  option_->check(CLI::IsMember(std::vector<std::string>(values.begin(), values.end())));
  return *this;
}

Option& Option::range(int64_t low, int64_t high) {
  const bool bounded = high < std::numeric_limits<int64_t>::max();
  const std::string wanted = std::to_string(low) + (bounded ? " to " + std::to_string(high) : " or more");
  option_->type_name(wanted);
  return check([=](const std::string& value) {
    return CLI::Range(low, high)(value).empty()
               ? ""
               : value + " was given, and it must be a whole number, " + wanted;
  });
}

Option& Option::positive() {
  option_->check(CLI::PositiveNumber);
  return *this;
}

Option& Option::check(const ValueCheck& problem_of) {
  option_->check(CLI::Validator([problem_of](const std::string& value) { return problem_of(value); }, ""));
  return *this;
}

Option& Option::group(const std::string& title) {
  option_->group(title);
  return *this;
}

Option& Option::delimiter(char separator) {
  option_->delimiter(separator);
  return *this;
}

Option& Option::placeholder(const std::string& shown) {
  option_->type_name(shown);
  return *this;
}

Option& Option::value_optional(const std::string& shown) {
  option_->expected(0, 1)->type_name(shown);
  return *this;
}

Option& Option::needs(const Option& other) {
  option_->needs(other.option_);
  return *this;
}

Option& Option::excludes(const Option& other) {
  option_->excludes(other.option_);
  return *this;
}

Command Command::subcommand(const std::string& name, const std::string& description) {
  return Command(app_->add_subcommand(name, description));
}

Command& Command::subcommand_required() {
  app_->require_subcommand(1);
  return *this;
}

Option Command::option(const std::string& names, Target target, const std::string& help) {
  return Option(std::visit([&](auto* value) { return add(*app_, names, value, help); }, target));
}

Option Command::flag(const std::string& names, bool* target, const std::string& help) {
  return Option(app_->add_flag(names, *target, help));
}

Command Command::exactly_one(const std::string& title, const std::string& description) {
  CLI::App* group = app_->add_option_group(title, description);
  group->require_option(1);
  return Command(group);
}

Command& Command::footer(const std::string& text) {
  app_->footer(text);
  return *this;
}

Command& Command::run(const std::function<void()>& action) {
  app_->callback(action);
  return *this;
}

Program::Program(const std::string& name, const std::string& description, const std::string& version)
    : Program(make_app(name, description, version)) {}

Program::Program(std::unique_ptr<CLI::App> app) : Command(app.get()), app_(std::move(app)) {}

Program::~Program() = default;

void Program::parse_and_run(int argc, char** argv) {
  const bool has_subcommands = !app_->get_subcommands({}).empty();
  if (has_subcommands) app_->require_subcommand(0, 1);
  try {
    app_->parse(argc, argv);
    if (has_subcommands && app_->get_subcommands().empty()) write_out(app_->help());
  } catch (const CLI::Success& asked) {  // --help, --version
    std::ostringstream text, nothing;
    app_->exit(asked, text, nothing);
    write_out(text.str());
  } catch (const CLI::ParseError& error) {
    throw UsageError(std::string(error.what()) + " (see " + help_command(*app_) + ")");
  } catch (const UsageError& error) {
    throw UsageError(std::string(error.what()) + " (see " + help_command(*app_) + ")");
  }
}

}  // namespace bdh::tools
