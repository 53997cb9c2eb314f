// Ctrl-C, and SIGTERM where a command saves first, as a flag that long work looks at.
#pragma once

namespace bdh::tools {

/// From now on the first Ctrl-C sets the flag, and a second one kills at once. Called again, it clears the
/// flag and starts anew. Blocking reads return EINTR when the flag is set.
void catch_interrupts();

/// SIGTERM, too: for a command that has something to save. After one, Ctrl-C kills; another SIGTERM, which
/// launchers send when they are impatient, changes nothing.
void catch_terminations();

/// SIGHUP, too: for a command that then reads its files anew.
void catch_hangups();
/// Whether one came since the last call.
bool take_hangup();

/// True once a signal was caught.
bool interrupted();

/// The signal that was caught, SIGINT or SIGTERM; 0: none.
int caught_signal();

/// Throws Error(cancelled) once a signal was caught; main turns that into exit code 130, or 143 for SIGTERM.
void stop_if_interrupted();

}  // namespace bdh::tools
