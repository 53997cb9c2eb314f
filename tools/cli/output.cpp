// What a program says: results that notice a full disk, warnings of one line.
#include "tools/cli/output.h"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "bdh/base/error.h"

namespace bdh::tools {

void write_out(std::string_view text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (written) return;
  if (errno == EPIPE) throw ClosedPipe{};
  fail(ErrorKind::io, "cannot write to standard output: ", std::generic_category().message(errno));
}

void warn(std::string_view message) { std::fprintf(stderr, "bdh: warning: %s\n", one_line(message).c_str()); }

void say_error(std::string_view message) {
  std::fprintf(stderr, "bdh: error: %s\n", one_line(message).c_str());
}

void note(std::string_view message) { std::fprintf(stderr, "bdh: %s\n", one_line(message).c_str()); }

std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", byte);
      out += escape;
    }
  }
  return out;
}

}  // namespace bdh::tools
