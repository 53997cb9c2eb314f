// Products with quantized rows by instructions that add up four products of bytes; those with other rows are
// the instruction set's that it is built on.
#include "kernels/cpu/generic/quantized_rows.h"
#include "kernels/cpu/isa_name.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {

extern const Kernels BDH_CONCAT(kernels_, BDH_BASE);

namespace {

void dot_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
              float* out) {
  const bool quantized = rows.dtype == DType::i8 || rows.dtype == DType::u8;
  (quantized ? dot_quantized_rows : BDH_CONCAT(kernels_, BDH_BASE).dot_rows)(rows, index, count, width, x,
                                                                             out);
}

}  // namespace

extern const decltype(Kernels::dot_rows) BDH_CONCAT(dot_rows_, BDH_ISA);
const decltype(Kernels::dot_rows) BDH_CONCAT(dot_rows_, BDH_ISA) = dot_rows;

}  // namespace bdh::cpu
