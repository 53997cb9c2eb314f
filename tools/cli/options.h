// The options of a program and its subcommands: declared once, bound to plain variables.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace bdh::tools {

/// Arguments that make no sense: one line and exit code 2.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Where a value goes. It must outlive the parsing; an optional is empty, and a vector keeps what it held,
/// where the option was not given.
using Target = std::variant<std::string*, int*, int64_t*, uint64_t*, double*, std::vector<std::string>*,
                            std::vector<int64_t>*, std::optional<std::string>*, std::optional<int64_t>*,
                            std::optional<uint64_t>*, std::optional<float>*>;

/// What is wrong with a value; "" where nothing is.
using ValueCheck = std::function<std::string(const std::string& value)>;

/// A declared option, to be described further.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option& required();
  Option& choices(std::initializer_list<const char*> values);
  /// A whole number from low to high; the greatest there is: no bound.
  Option& range(int64_t low, int64_t high);
  Option& positive();
  Option& check(const ValueCheck& problem_of);
  /// The heading in --help.
  Option& group(const std::string& title);
  /// Several values in one, as in 1,2,3.
  Option& delimiter(char separator);
  /// What stands for the value in --help: "N".
  Option& placeholder(const std::string& shown);
  /// The value may be left out: "" then. `shown` stands for it in --help.
  Option& value_optional(const std::string& shown);
  Option& needs(const Option& other);
  Option& excludes(const Option& other);

 private:
  CLI::Option* option_;
};

/// A program or subcommand; a handle on what Program owns.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  /// A subcommand that must be given, where `needed`.
  Command subcommand(const std::string& name, const std::string& description);
  Command& subcommand_required();

  /// names: "NAME" for a positional, "--name" or "-n,--name". An option that binds a vector of strings takes
  /// one value and may be repeated; a positional takes all that are left.
  Option option(const std::string& names, Target target, const std::string& help);
  Option flag(const std::string& names, bool* target, const std::string& help);
  /// Options of which exactly one must be given.
  Command exactly_one(const std::string& title, const std::string& description);

  /// What --help ends with.
  Command& footer(const std::string& text);
  /// Called once everything is parsed.
  Command& run(const std::function<void()>& action);

 private:
  CLI::App* app_;
};

class Program : public Command {
 public:
  Program(const std::string& name, const std::string& description, const std::string& version);
  ~Program();

  /// Parses the arguments and runs what was asked for; prints help and version. Throws UsageError, and what
  /// the command throws.
  void parse_and_run(int argc, char** argv);

 private:
  explicit Program(std::unique_ptr<CLI::App> app);
  std::unique_ptr<CLI::App> app_;
};

}  // namespace bdh::tools
