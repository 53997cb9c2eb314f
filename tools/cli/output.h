// What a program says: results that notice a full disk, warnings of one line.
#pragma once

#include <string>
#include <string_view>

namespace bdh::tools {

/// Writes to stdout and flushes. All of a command's results go through here. Throws Error(io) when stdout
/// cannot take it, and ClosedPipe when nobody reads it any more.
void write_out(std::string_view text);
struct ClosedPipe {};

/// "bdh: warning: ..." on stderr, one line.
void warn(std::string_view message);

/// "bdh: error: ..." on stderr, one line: for a failure that no exception can tell.
void say_error(std::string_view message);

/// "bdh: ..." on stderr, one line: what goes on, beside the result.
void note(std::string_view message);

/// The text with control characters, line breaks included, written as \n or \x1b: fit for one line of a
/// terminal.
std::string one_line(std::string_view text);

}  // namespace bdh::tools
