// A progress line on a terminal: done, total, rate, time left. Silent when stderr is no terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace bdh::tools {

/// "0:07", "12:34", "3:05:00".
std::string clock_text(double seconds);

/// Redrawn at most ten times a second, erased when the object goes.
class Progress {
 public:
  /// what: the verb in front, as in "reading"; unit: what is counted, as in "tokens".
  Progress(std::string what, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// total 0: not known. Returns false once Ctrl-C was pressed, so that it can be a progress callback's
  /// result.
  bool update(int64_t done, int64_t total);
  /// Shows a line of its own while something goes on that cannot say how far it is.
  void show(const std::string& line);
  /// Erases the line; the next update draws it again.
  void erase();

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_, unit_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_, last_;
};

}  // namespace bdh::tools
