// Stacks of their own and the switch from one to another, for the threads of an emulated block.
#pragma once

#include <cstddef>

namespace emulation {

/// Where a flow of control stands while another runs, and the stack it stands on.
struct Context {
  void* stack_pointer = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
};

/// A stack with a page below it that must not be touched, for one flow of control after the other.
class Fiber {
 public:
  /// Fibers of different colour have their first frames in different sets of the cache.
  explicit Fiber(size_t colour);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next switch to context() enters `entry`, which must not return. What stood on the stack is
  /// forgotten.
  void prepare(void (*entry)());
  Context& context() { return context_; }

 private:
  void* mapping_;
  char* top_;
  Context context_;
};

/// Goes on at `to`; returns when something switches to `from`.
void switch_context(Context& from, Context& to);
/// Goes on at `to` from a flow of control that is over.
[[noreturn]] void leave_for(Context& to);
/// What `entry` calls before anything else.
void entered_fiber();

}  // namespace emulation
