// The one exception type of the library.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace bdh {

enum class ErrorKind {
  invalid_argument,  // the caller asked for something impossible: a shape, an option, a token out of range
  not_found,         // a file, directory, tensor or device that is not there
  io,                // the operating system refused: permission, full disk, short read
  bad_file,          // a file that is not what it claims to be: truncated, contradictory, hostile
  unsupported,       // valid, but not something this build can do
  out_of_memory,     // needs more memory than there is
  cancelled,         // a progress callback asked to stop
};

/// What every function of bdh throws. what() names the file, tensor or argument, and what to do about it.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// The parts, printed one after the other.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws Error(kind, concat(parts...)).
template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, concat(parts...));
}

}  // namespace bdh
