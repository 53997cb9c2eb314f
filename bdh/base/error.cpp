// Messages put together.
#include "bdh/base/error.h"

#include <charconv>
#include <iterator>

namespace bdh {
namespace {

template <class... Format>
std::string_view print_into(char (&digits)[24], Format... number) {
  const char* end = std::to_chars(std::begin(digits), std::end(digits), number...).ptr;
  return {digits, static_cast<size_t>(end - digits)};
}

}  // namespace

void Part::print(int64_t number) { text_ = print_into(digits_, number); }
void Part::print(uint64_t number) { text_ = print_into(digits_, number); }
void Part::print(double number) { text_ = print_into(digits_, number, std::chars_format::general, 6); }

std::string joined(std::initializer_list<Part> parts) {
  std::string all;
  for (const Part& part : parts) all += part.text();
  return all;
}

void throw_error(ErrorKind kind, std::initializer_list<Part> parts) { throw Error(kind, joined(parts)); }

}  // namespace bdh
