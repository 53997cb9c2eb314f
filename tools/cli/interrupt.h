// Ctrl-C as a flag that long work looks at.
#pragma once

namespace bdh::tools {

/// From now on the first Ctrl-C sets the flag, and a second one kills at once. Called again, it clears the
/// flag and starts anew. Blocking reads return EINTR when the flag is set.
void catch_interrupts();

/// True once Ctrl-C was pressed.
bool interrupted();

/// Throws Error(cancelled) once Ctrl-C was pressed; main turns that into exit code 130.
void stop_if_interrupted();

}  // namespace bdh::tools
