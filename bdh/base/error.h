// The one exception type of the library.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

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

/// A part of a message: text or a number, reals with six digits. Refers to text, which must outlive it.
class Part {
 public:
  Part(std::string_view text) : text_(text) {}
  Part(const std::string& text) : text_(text) {}
  Part(const char* text) : text_(text) {}
  Part(char letter) : text_(digits_, 1), digits_{letter} {}
  template <std::signed_integral Number>
  Part(Number number) {
    print(static_cast<int64_t>(number));
  }
  template <std::unsigned_integral Number>
  Part(Number number) {
    print(static_cast<uint64_t>(number));
  }
  template <std::floating_point Number>
  Part(Number number) {
    print(static_cast<double>(number));
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
  std::string_view text() const { return text_; }

 private:
  void print(int64_t number);
  void print(uint64_t number);
  void print(double number);

  std::string_view text_;
  char digits_[24];
};

std::string joined(std::initializer_list<Part> parts);
[[noreturn]] void throw_error(ErrorKind kind, std::initializer_list<Part> parts);

/// The parts, one after the other.
template <class... Parts>
std::string concat(const Parts&... parts) {
  return joined({parts...});
}

/// Throws Error(kind, concat(parts...)).
template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw_error(kind, {parts...});
}

}  // namespace bdh
