// Products with quantized rows by vpdpwssd; those with other rows are AVX-512's.
#include "kernels/cpu/generic/quantized_rows.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {

extern const Kernels kernels_avx512;

namespace {

void dot_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
              float* out) {
  const bool quantized = rows.dtype == DType::i8 || rows.dtype == DType::u8;
  (quantized ? dot_quantized_rows : kernels_avx512.dot_rows)(rows, index, count, width, x, out);
}

}  // namespace

extern const decltype(Kernels::dot_rows) dot_rows_avx512vnni;
const decltype(Kernels::dot_rows) dot_rows_avx512vnni = dot_rows;

}  // namespace bdh::cpu
