// The tensor cores' instructions and the asynchronous copies that feed them, as functions (PTX ISA; sm_80 and
// later, wgmma sm_90a). Fragment layouts are the PTX manual's.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#ifdef BDH_CUDA_EMULATED
#include "ptx_emulation.h"
#include "warpgroup_emulation.h"

#define BDH_WARPGROUPS

namespace bdh::cuda {
using emulation::align_shared;
using emulation::copy_async;
using emulation::copy_async_commit;
using emulation::copy_async_wait;
using emulation::load_matrix_x4;
using emulation::load_matrix_x4_transposed;
using emulation::mma_bf16;
using emulation::mma_f16;
using emulation::show_to_tensor_cores;
using emulation::swizzled_matrix;
using emulation::warpgroup_begin;
using emulation::warpgroup_multiply_add;
using emulation::warpgroup_wait;
}  // namespace bdh::cuda
#else

namespace bdh::cuda {

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// d (16, 8) += a (16, 16) b (16, 8), float32 sums.
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
      "%1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8, aligned to
/// 16 bytes.
__device__ inline void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Starts copying 4, 8 or 16 bytes, aligned to as many, to shared memory, or zero bytes where `whole` is
/// false. Only 16 can pass the first-level cache by.
template <int bytes>
__device__ inline void copy_async(void* shared, const void* global, bool whole) {
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(whole ? 16 : 0)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(shared_address(shared)), "l"(global),
                 "n"(bytes), "r"(whole ? bytes : 0)
                 : "memory");
  }
}

/// Ends a group of the thread's copies.
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

/// Waits until at most N of the thread's groups are under way.
template <int N>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define BDH_WARPGROUPS

/// The first address from `shared` on that is a multiple of `alignment` in the block's shared memory.
template <int alignment>
__device__ inline unsigned char* align_shared(unsigned char* shared) {
  return shared + (0u - shared_address(shared)) % alignment;
}

/// An operand of a warpgroup's product: rows of 128 bytes in the 128-byte swizzle. group: bytes from eight
/// rows to the next eight; half: bytes from 64 columns to the next 64, for an operand with m or n along its
/// rows.
__device__ inline uint64_t swizzled_matrix(const void* start, int half, int group) {
  return uint64_t{(shared_address(start) & 0x3ffff) >> 4} | static_cast<uint64_t>(half >> 4) << 16 |
         static_cast<uint64_t>(group >> 4) << 32 | uint64_t{1} << 62;
}

/// Lets the tensor cores see what this thread has written to shared memory. A barrier follows.
__device__ inline void show_to_tensor_cores() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

/// Before the first product that adds to registers which others have written.
__device__ inline void warpgroup_begin() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }

/// Waits for all products of the warpgroup.
__device__ inline void warpgroup_wait() {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n" ::: "memory");
}

// One instruction for both 16-bit types, which differ in their PTX names; d, a and b are the caller's.
#define BDH_WARPGROUP_PRODUCT(type, a_transposed, b_transposed)                                             \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                                 \
               " {"                                                                                         \
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
               "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, " \
               "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, " \
               "%56, %57, %58, %59, %60, %61, %62, %63"                                                     \
               "}, %64, %65, 1, 1, 1, %66, %67;\n"                                                          \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),        \
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),    \
                 "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), \
                 "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), \
                 "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), \
                 "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), \
                 "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
                 "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
                 "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), \
                 "+f"(d[63])                                                                                \
               : "l"(a), "l"(b), "n"(a_transposed), "n"(b_transposed))

/// Starts d (64, 128) += a (64, 16) b (16, 128) by a warpgroup. Transposed operands have m or n along their
/// rows.
template <bool a_transposed, bool b_transposed>
__device__ inline void warpgroup_multiply_add(float (&d)[64], uint64_t a, uint64_t b, const __nv_bfloat16*) {
  BDH_WARPGROUP_PRODUCT("bf16", a_transposed, b_transposed);
}

template <bool a_transposed, bool b_transposed>
__device__ inline void warpgroup_multiply_add(float (&d)[64], uint64_t a, uint64_t b, const __half*) {
  BDH_WARPGROUP_PRODUCT("f16", a_transposed, b_transposed);
}

#undef BDH_WARPGROUP_PRODUCT
#endif

}  // namespace bdh::cuda
#endif
