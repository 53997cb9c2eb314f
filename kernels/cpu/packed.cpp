// Packing: transposes the encoders to neuron-major rows, pads and converts what needs it, leaves the rest
// where it is; everything where the parameters are packed already.
#include "kernels/cpu/packed.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "bdh/base/memory.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

struct Block {
  std::shared_ptr<std::byte> memory;
  Rows rows;
};

Block new_rows(PackedParameters& packed, int64_t count, int64_t stride, const char* what) {
  const size_t bytes = static_cast<size_t>(count) * static_cast<size_t>(stride) * size_of(packed.dtype);
  Block block{allocate_zeroed(bytes, what), {}};
  block.rows = {block.memory.get(), packed.dtype, stride};
  packed.bytes += bytes;
  packed.owners.push_back(block.memory);
  return block;
}

// Square tiles of both sides stay in cache while they are transposed.
constexpr int64_t kTransposeTile = 64;

// to[j * stride + d] = tile[d][j], for d < height and j < width.
template <class Element>
void transpose_tile(const Element (&tile)[kTransposeTile][kTransposeTile], int64_t height, int64_t width,
                    Element* to, int64_t stride) {
  for (int64_t j = 0; j < width; ++j) {
    for (int64_t d = 0; d < height; ++d) to[j * stride + d] = tile[d][j];
  }
}

// (D, N) columns [begin, end) of one head, converted and transposed to rows.
template <class Element>
void transpose_columns(const Tensor& from, int64_t head, int64_t begin, int64_t end, const Dimensions& dims,
                       const Block& to) {
  alignas(64) Element tile[kTransposeTile][kTransposeTile];
  Element* rows =
      reinterpret_cast<Element*>(to.memory.get()) + (head * dims.neurons + begin) * to.rows.stride;
  for (int64_t d = 0; d < dims.width; d += kTransposeTile) {
    const int64_t height = std::min(kTransposeTile, dims.width - d);
    for (int64_t i = 0; i < height; ++i) {
      const int64_t first = (head * dims.width + d + i) * dims.neurons + begin;
      convert(from.dtype, from.data + static_cast<size_t>(first) * size_of(from.dtype), to.rows.dtype,
              tile[i], static_cast<size_t>(end - begin));
    }
    transpose_tile(tile, height, end - begin, rows + d, to.rows.stride);
  }
}

Rows transposed_rows(PackedParameters& packed, const Tensor& encoder, const char* what, ThreadPool& pool) {
  const Dimensions& dims = packed.dims;
  const Block block = new_rows(packed, dims.heads * dims.neurons, packed.stride, what);
  const int64_t tiles = (dims.neurons + kTransposeTile - 1) / kTransposeTile;
  const auto transpose =
      size_of(packed.dtype) == 4 ? transpose_columns<uint32_t> : transpose_columns<uint16_t>;
  for (int64_t head = 0; head < dims.heads; ++head) {
    pool.run(tiles, [&](int64_t i, int) {
      transpose(encoder, head, i * kTransposeTile, std::min(dims.neurons, (i + 1) * kTransposeTile), dims,
                block);
    });
    const size_t bytes = encoder.bytes() / static_cast<size_t>(dims.heads);
    release(encoder, static_cast<size_t>(head) * bytes, bytes);
  }
  return block.rows;
}

constexpr int64_t kRowsAtOnce = 512;

// test(row) for every row, on all threads.
template <class Test>
bool all_rows(int64_t count, ThreadPool& pool, const Test& test) {
  std::atomic<bool> all{true};
  pool.run((count + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t part, int) {
    const int64_t end = std::min(count, (part + 1) * kRowsAtOnce);
    for (int64_t i = part * kRowsAtOnce; i < end && all; ++i) {
      if (!test(i)) all = false;
    }
  });
  return all;
}

// In elements, of the last dimension but one.
int64_t row_stride(const Tensor& tensor) { return tensor.strides[tensor.strides.size() - 2]; }

// No row begins less aligned than its length allows: at multiples of the largest power of two, up to 64, that
// divides its bytes.
bool rows_are_aligned(const Tensor& tensor) {
  constexpr uintptr_t kAlignment = 64;
  const uintptr_t row = static_cast<uintptr_t>(row_stride(tensor)) * size_of(tensor.dtype) | kAlignment;
  return reinterpret_cast<uintptr_t>(tensor.data) % (row & -row) == 0;
}

bool all_zero(const std::byte* begin, const std::byte* end) {
  return std::all_of(begin, end, [](std::byte byte) { return byte == std::byte{0}; });
}

// Behind the `width` elements of every row only zeros follow, up to the next one.
bool padded_with_zeros(const Tensor& tensor, int64_t count, int64_t width, ThreadPool& pool) {
  const auto size = static_cast<int64_t>(size_of(tensor.dtype));
  const int64_t row = row_stride(tensor) * size, used = width * size;
  return row == used || all_rows(count, pool, [&](int64_t i) {
           const std::byte* begin = tensor.data + i * row;
           return all_zero(begin + used, begin + row);
         });
}

// Row-major rows padded to `stride`: the tensor's own memory when nothing changes.
Rows padded_rows(PackedParameters& packed, const Tensor& tensor, int64_t count, int64_t width, int64_t stride,
                 const char* what, ThreadPool& pool) {
  const bool fits = tensor.dtype == packed.dtype && row_stride(tensor) == stride;
  if (fits && (packed.were_rows ? rows_are_aligned(tensor) && padded_with_zeros(tensor, count, width, pool)
                                : width == stride)) {
    packed.owners.push_back(tensor.owner);
    return {tensor.data, tensor.dtype, stride};
  }
  const Block block = new_rows(packed, count, stride, what);
  const size_t from_row = static_cast<size_t>(row_stride(tensor)) * size_of(tensor.dtype);
  const size_t to_row = static_cast<size_t>(stride) * size_of(packed.dtype);
  pool.run(count, [&](int64_t i, int) {
    convert(tensor.dtype, tensor.data + static_cast<size_t>(i) * from_row, packed.dtype,
            block.memory.get() + static_cast<size_t>(i) * to_row, static_cast<size_t>(width));
  });
  release(tensor, 0, tensor.bytes());
  return block.rows;
}

// Number d of a row of 4 bits: its byte, the bits there, and what they are where it is 0.
struct Nibble {
  int64_t byte;
  std::byte bits, zero;

  Nibble(int64_t d, int64_t group)
      : byte(d / group * group / 2 + d % (group / 2)),
        bits(std::byte(d % group < group / 2 ? 0x0f : 0xf0)),
        zero(bits & std::byte{0x88}) {}
};

// Numbers of 4 bits from `width` to the end of their group become 0.
void clear_after(std::byte* row, int64_t width, int64_t group) {
  for (int64_t d = width; d % group != 0; ++d) {
    const Nibble number(d, group);
    row[number.byte] = (row[number.byte] & ~number.bits) | number.zero;
  }
}

bool is_clear_after(const std::byte* row, int64_t width, int64_t group) {
  for (int64_t d = width; d % group != 0; ++d) {
    const Nibble number(d, group);
    if ((row[number.byte] & number.bits) != number.zero) return false;
  }
  return true;
}

// Of a quantized matrix: bytes of a row and scales of a row, those that count and all of them.
struct QuantizedSizes {
  int64_t width, count, row, scales, padded_row, padded_scales;

  QuantizedSizes(const Matrix& matrix, int64_t row_numbers)
      : width(row_numbers), row(matrix.values.shape.back()), scales(1), padded_scales(1) {
    const int64_t numbers = (width + kQuantizedPadding - 1) / kQuantizedPadding * kQuantizedPadding;
    const bool four = matrix.values.dtype == DType::u8;
    count = matrix.values.numel() / row;
    padded_row = numbers / (four ? 2 : 1);
    if (!four) return;
    scales = (width + matrix.group - 1) / matrix.group;
    padded_scales = numbers / matrix.group;
  }
};

// Packed rows that end in zeros, and so run where they lie.
bool run_as_they_lie(const Matrix& matrix, const QuantizedSizes& sizes, ThreadPool& pool) {
  const Tensor &values = matrix.values, &scales = matrix.scales;
  if (row_stride(values) != sizes.padded_row || !rows_are_aligned(values) ||
      reinterpret_cast<uintptr_t>(scales.data) % alignof(uint16_t) != 0)
    return false;
  if (values.dtype == DType::i8) return padded_with_zeros(values, sizes.count, sizes.width, pool);
  return row_stride(scales) == sizes.padded_scales &&
         padded_with_zeros(scales, sizes.count, sizes.scales, pool) &&
         (sizes.width % matrix.group == 0 || all_rows(sizes.count, pool, [&](int64_t i) {
            return is_clear_after(values.data + i * sizes.padded_row, sizes.width, matrix.group);
          }));
}

// Quantized rows, whole units of kQuantizedPadding; what a row's last unit has beyond D is made 0. Copied
// even where nothing changes, unless they are packed: gathered from large pages they arrive up to a tenth
// faster than from a file's.
Rows quantized_rows(PackedParameters& packed, const Matrix& matrix, const char* what, ThreadPool& pool) {
  const QuantizedSizes sizes(matrix, packed.dims.width);
  const bool four = matrix.values.dtype == DType::u8;
  if (packed.were_rows && run_as_they_lie(matrix, sizes, pool)) {
    packed.owners.insert(packed.owners.end(), {matrix.values.owner, matrix.scales.owner});
    return {matrix.values.data, matrix.values.dtype, sizes.padded_row,
            reinterpret_cast<const uint16_t*>(matrix.scales.data), sizes.padded_scales};
  }
  const int64_t count = sizes.count, from_row = row_stride(matrix.values);
  const int64_t from_scales = four ? row_stride(matrix.scales) : 1;
  const Block values = new_rows(packed, count, sizes.padded_row, what);
  const Block scales = new_rows(packed, count, 2 * sizes.padded_scales, what);
  const auto copy_row = [&](int64_t i) {
    std::byte* to = values.memory.get() + i * sizes.padded_row;
    std::memcpy(to, matrix.values.data + i * from_row, static_cast<size_t>(sizes.row));
    std::memcpy(scales.memory.get() + 2 * i * sizes.padded_scales, matrix.scales.data + 2 * i * from_scales,
                static_cast<size_t>(2 * sizes.scales));
    if (four) clear_after(to, sizes.width, matrix.group);
  };
  pool.run((count + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t part, int) {
    for (int64_t i = part * kRowsAtOnce; i < std::min(count, (part + 1) * kRowsAtOnce); ++i) copy_row(i);
  });
  release(matrix.values, 0, matrix.values.bytes());
  release(matrix.scales, 0, matrix.scales.bytes());
  return {values.rows.data, matrix.values.dtype, sizes.padded_row,
          reinterpret_cast<const uint16_t*>(scales.rows.data), sizes.padded_scales};
}

// (H, D, N) as rows (H*N, stride).
Rows neuron_major(PackedParameters& packed, const Tensor& encoder, const char* what, ThreadPool& pool) {
  if (!packed.were_rows) return transposed_rows(packed, encoder, what, pool);
  const int64_t count = packed.dims.heads * packed.dims.neurons;
  Tensor rows = encoder;
  rows.shape = {count, packed.dims.width};
  rows.strides = {encoder.strides.back(), 1};
  return padded_rows(packed, rows, count, packed.dims.width, packed.stride, what, pool);
}

// The kernels drop whole turns by conversion to 32 bits, and take angles in [0, 2 pi].
int64_t rotated_positions(const std::vector<float>& freqs) {
  constexpr float kMostTurns = 0x1p30f;
  const auto [smallest, largest] = std::minmax_element(freqs.begin(), freqs.end());
  if (*smallest < 0) return 0;
  return *largest > 0 ? static_cast<int64_t>(kMostTurns / std::max(*largest, 0x1p-30f)) : int64_t{1} << 60;
}

size_t quantized_bytes(const Dimensions& dims, DType dtype) {
  const bool four = dtype == DType::u8;
  const int64_t units = (dims.width + kQuantizedPadding - 1) / kQuantizedPadding;
  const int64_t row = four ? units * (kQuantizedPadding / 2 + 4) : units * kQuantizedPadding + 2;
  const int64_t rows = 3 * dims.sets * dims.heads * dims.neurons + 2 * dims.vocab;
  return static_cast<size_t>(rows * row + padded(dims.neurons) * static_cast<int64_t>(sizeof(float)));
}

}  // namespace

size_t packed_bytes(const Dimensions& dims, DType dtype) {
  if (dtype == DType::i8 || dtype == DType::u8) return quantized_bytes(dims, dtype);
  const int64_t neurons = 3 * dims.sets * dims.heads * dims.neurons * padded(dims.width);
  const int64_t tokens = dims.vocab * dims.width + dims.width * padded(dims.vocab);
  return static_cast<size_t>(neurons + tokens) * size_of(dtype) +
         static_cast<size_t>(padded(dims.neurons)) * sizeof(float);
}

namespace {

void pack_quantized(PackedParameters& packed, const Parameters& parameters, ThreadPool& pool) {
  for (const Layer& layer : parameters.layers) {
    packed.layers.push_back({quantized_rows(packed, layer.encoder, "the encoder", pool),
                             quantized_rows(packed, layer.encoder_v, "encoder_v", pool),
                             quantized_rows(packed, layer.decoder, "the decoder", pool)});
  }
  packed.embed = quantized_rows(packed, parameters.embed, "the embedding", pool);
  packed.lm_head = quantized_rows(packed, parameters.lm_head, "lm_head", pool);
}

void pack_floats(PackedParameters& packed, const Parameters& parameters, ThreadPool& pool) {
  const auto [layers, width, heads, neurons, vocab, sets] = parameters.dims;
  for (const Layer& layer : parameters.layers) {
    packed.layers.push_back({neuron_major(packed, layer.encoder.values, "the neuron-major encoder", pool),
                             neuron_major(packed, layer.encoder_v.values, "the neuron-major encoder_v", pool),
                             padded_rows(packed, layer.decoder.values, heads * neurons, width, packed.stride,
                                         "the decoder", pool)});
  }
  packed.embed = padded_rows(packed, parameters.embed.values, vocab, width, width, "the embedding", pool);
  packed.lm_head =
      padded_rows(packed, parameters.lm_head.values, width, vocab, padded(vocab), "lm_head", pool);
}

}  // namespace

std::shared_ptr<const PackedParameters> pack_parameters(const Parameters& parameters, DType dtype,
                                                        ThreadPool& pool) {
  require_dtype(parameters, dtype, "CPU");
  auto packed = std::make_shared<PackedParameters>();
  const int64_t neurons = parameters.dims.neurons;
  packed->dims = parameters.dims;
  packed->dtype = dtype;
  packed->were_rows = parameters.packed;
  packed->stride = padded(parameters.dims.width);
  const auto pack = parameters.embed.group != 0 ? pack_quantized : pack_floats;
  pack(*packed, parameters, pool);
  packed->freqs.assign(static_cast<size_t>(padded(neurons)), 0.0f);
  std::memcpy(packed->freqs.data(), parameters.freqs.data, static_cast<size_t>(neurons) * sizeof(float));
  for (const float f : packed->freqs) packed->fixed_freqs.push_back(fixed_point(f));
  packed->rotated_positions = rotated_positions(packed->freqs);
  return packed;
}

}  // namespace bdh::cpu
