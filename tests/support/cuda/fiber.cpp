// The switch is a few instructions of the processor: what a called function must keep goes on the stack, and
// the stack pointer is exchanged.
#include "tests/support/cuda/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define BDH_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BDH_ADDRESS_SANITIZER
#endif
#endif

#ifdef BDH_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void bdh_emulation_switch(void** save_stack_pointer, void* stack_pointer);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl bdh_emulation_switch
.type bdh_emulation_switch, @function
bdh_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size bdh_emulation_switch, .-bdh_emulation_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl bdh_emulation_switch
.type bdh_emulation_switch, %function
bdh_emulation_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size bdh_emulation_switch, .-bdh_emulation_switch
)");
#else
#error "the CUDA emulator switches stacks on x86-64 and aarch64 only"
#endif

namespace emulation {
namespace {

constexpr size_t kGuardBytes = 64 * 1024;   // a page, of whatever size pages are
constexpr size_t kStackBytes = 256 * 1024;  // of address space: a page or two is touched

#if defined(__x86_64__)
constexpr size_t kFrameWords = 8;  // six registers, the return address, and that of whoever called the entry
constexpr size_t kReturnWord = 6;
#else
constexpr size_t kFrameWords = 20;
constexpr size_t kReturnWord = 11;
#endif

[[maybe_unused]] thread_local Context* switched_from = nullptr;

}  // namespace

Fiber::Fiber(size_t colour)
    : mapping_(::mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  ::mprotect(mapping_, kGuardBytes, PROT_NONE);
  char* const bottom = static_cast<char*>(mapping_) + kGuardBytes;
  context_.bottom = bottom;
  context_.size = kStackBytes;
  top_ = bottom + kStackBytes - colour % 32 * 320;
}

Fiber::~Fiber() { ::munmap(mapping_, kGuardBytes + kStackBytes); }

void Fiber::prepare(void (*entry)()) {
#ifdef BDH_ADDRESS_SANITIZER
  ASAN_UNPOISON_MEMORY_REGION(context_.bottom, context_.size);
#endif
  uintptr_t frame[kFrameWords] = {};
  frame[kReturnWord] = reinterpret_cast<uintptr_t>(entry);
  context_.stack_pointer = top_ - sizeof frame;
  context_.fake_stack = nullptr;
  std::memcpy(context_.stack_pointer, frame, sizeof frame);
}

void switch_context(Context& from, Context& to) {
#ifdef BDH_ADDRESS_SANITIZER
  switched_from = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
  bdh_emulation_switch(&from.stack_pointer, to.stack_pointer);
#ifdef BDH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void leave_for(Context& to) {
  static thread_local Context ended;
#ifdef BDH_ADDRESS_SANITIZER
  switched_from = &ended;
  __sanitizer_start_switch_fiber(nullptr, to.bottom, to.size);
#endif
  bdh_emulation_switch(&ended.stack_pointer, to.stack_pointer);
  std::terminate();
}

void entered_fiber() {
#ifdef BDH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &switched_from->bottom, &switched_from->size);
#endif
}

}  // namespace emulation
