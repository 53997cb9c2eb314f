// Packing: slabs of each matrix go through page-locked memory to the GPU, which transposes the encoders to
// neuron-major rows and regroups numbers of 4 bits. Quantized matrices are rows already.
#include "kernels/cuda/packed.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/cuda/weight_rows.h"

namespace bdh::cuda {

namespace {

constexpr int kTile = 32;
constexpr int kTileRows = 8;  // of threads
constexpr size_t kStagingBytes = 16 << 20;

// slab (height, columns) becomes columns [first, first + height) of rows (columns, stride).
template <class Bits>
__global__ void transpose(const Bits* slab, int height, int columns, Bits* rows, int stride, int first) {
  auto* tile = reinterpret_cast<Bits*>(shared_memory());  // (kTile, kTile + 1)
  const int column = blockIdx.x * kTile, row = blockIdx.y * kTile;
  for (int i = threadIdx.y; i < kTile; i += kTileRows) {
    if (row + i < height && column + static_cast<int>(threadIdx.x) < columns)
      tile[i * (kTile + 1) + threadIdx.x] = slab[int64_t{row + i} * columns + column + threadIdx.x];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kTile; i += kTileRows) {
    if (column + i < columns && row + static_cast<int>(threadIdx.x) < height)
      rows[int64_t{column + i} * stride + first + row + threadIdx.x] = tile[threadIdx.x * (kTile + 1) + i];
  }
}

// Numbers of 4 bits as the file has them become words of eight neighbours; 0 beyond `width`. A thread has a
// word.
__global__ void regroup(const uint8_t* slab, int row_bytes, int width, FourBits* words, int64_t count,
                        int row_words) {
  const int64_t word = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (word >= count) return;
  constexpr int kHalf = FourBits::kGroup / 2;
  const int column = static_cast<int>(word % row_words) * kVector, in_group = column % FourBits::kGroup;
  const uint8_t* from =
      slab + word / row_words * row_bytes + column / FourBits::kGroup * kHalf + in_group % kHalf;
  uint32_t bits = 0;
  for (int i = 0; i < kVector; ++i) {
    const uint32_t number = column + i < width ? from[i] >> (in_group < kHalf ? 0 : 4) & 15 : 8;
    bits |= number << FourBits::shift_of(i);
  }
  words[word] = {bits};
}

// Rows of tensors, through page-locked memory.
class Upload {
 public:
  Upload(size_t widest_row, const Stream& stream)
      : stream_(stream),
        staging_(std::max(kStagingBytes, widest_row)),
        slab_(staging_.bytes(), "the GPU's copy of a slab of weights") {}

  int64_t rows_at_once(int64_t width, DType dtype) const {
    return static_cast<int64_t>(staging_.bytes() / (static_cast<size_t>(width) * size_of(dtype)));
  }

  // Rows [first, first + count) of `tensor` seen as rows of `width` elements, as `dtype` in the GPU's slab.
  void send(const Tensor& tensor, DType dtype, int64_t first, int64_t count, int64_t width) {
    const size_t elements = static_cast<size_t>(count * width), element = size_of(tensor.dtype);
    const std::byte* from = tensor.data + static_cast<size_t>(first * width) * element;
    stream_.wait();
    if (tensor.dtype == dtype) {
      std::memcpy(staging_.as<std::byte>(), from, elements * element);
    } else {
      convert(tensor.dtype, from, dtype, staging_.as<std::byte>(), elements);
    }
    release(tensor, static_cast<size_t>(first * width) * element, elements * element);
    check(cudaMemcpyAsync(slab_.as<void>(), staging_.as<void>(), elements * size_of(dtype),
                          cudaMemcpyHostToDevice, stream_.get()),
          "copying weights to the GPU");
  }

  const void* slab() const { return slab_.as<void>(); }
  cudaStream_t stream() const { return stream_.get(); }

 private:
  const Stream& stream_;
  PinnedMemory staging_;
  DeviceMemory slab_;
};

DeviceMemory zeroed(PackedParameters& packed, size_t bytes, const char* what, cudaStream_t stream) {
  DeviceMemory memory(bytes, what);
  check(cudaMemsetAsync(memory.as<void>(), 0, memory.bytes(), stream), "clearing GPU memory");
  packed.bytes += memory.bytes();
  return memory;
}

template <class Bits>
void transpose_slab(const Upload& upload, int64_t height, int columns, Bits* rows, int stride,
                    int64_t first) {
  const auto tiles = [](int64_t count) { return static_cast<unsigned>((count + kTile - 1) / kTile); };
  launch(upload.stream(),
         {dim3(tiles(columns), tiles(height)), dim3(kTile, kTileRows), kTile * (kTile + 1) * sizeof(Bits)},
         transpose<Bits>, static_cast<const Bits*>(upload.slab()), static_cast<int>(height), columns, rows,
         stride, static_cast<int>(first));
}

// (H, D, N) -> (H*N, stride)
DeviceMemory neuron_major(PackedParameters& packed, const Tensor& encoder, Upload& upload, const char* what) {
  const Sizes& sizes = packed.sizes;
  const size_t element = size_of(packed.dtype);
  DeviceMemory memory =
      zeroed(packed, static_cast<size_t>(sizes.rows() * sizes.stride) * element, what, upload.stream());
  const int64_t most = std::min<int64_t>(upload.rows_at_once(sizes.neurons, packed.dtype), sizes.width);
  for (int64_t head = 0; head < sizes.heads; ++head) {
    for (int64_t d = 0; d < sizes.width; d += most) {
      const int64_t height = std::min<int64_t>(most, sizes.width - d),
                    at = head * sizes.neurons * sizes.stride;
      upload.send(encoder, packed.dtype, head * sizes.width + d, height, sizes.neurons);
      if (element == 4) {
        transpose_slab(upload, height, sizes.neurons, memory.as<uint32_t>() + at, sizes.stride, d);
      } else {
        transpose_slab(upload, height, sizes.neurons, memory.as<uint16_t>() + at, sizes.stride, d);
      }
    }
  }
  return memory;
}

// (count, width) -> (count, stride), as `dtype`
DeviceMemory padded_rows(PackedParameters& packed, const Tensor& tensor, DType dtype, int64_t count,
                         int64_t width, int64_t stride, Upload& upload, const char* what) {
  const size_t element = size_of(dtype), row = static_cast<size_t>(width) * element,
               pitch = static_cast<size_t>(stride) * element;
  DeviceMemory memory = zeroed(packed, static_cast<size_t>(count) * pitch, what, upload.stream());
  const int64_t most = upload.rows_at_once(width, dtype);
  for (int64_t first = 0; first < count; first += most) {
    const int64_t rows = std::min(most, count - first);
    upload.send(tensor, dtype, first, rows, width);
    check(cudaMemcpy2DAsync(memory.as<std::byte>() + static_cast<size_t>(first) * pitch, pitch, upload.slab(),
                            row, row, static_cast<size_t>(rows), cudaMemcpyDeviceToDevice, upload.stream()),
          "padding rows of weights");
  }
  return memory;
}

// Rows of 4 bits -> (count, stride / 8) words
DeviceMemory regrouped(PackedParameters& packed, const Tensor& tensor, int64_t count, Upload& upload,
                       const char* what) {
  constexpr int kThreads = 256;
  const Sizes& sizes = packed.sizes;
  const int row_words = sizes.stride / kVector;
  const int64_t row_bytes = tensor.shape.back(), most = upload.rows_at_once(row_bytes, DType::u8);
  DeviceMemory memory =
      zeroed(packed, static_cast<size_t>(count * row_words) * sizeof(FourBits), what, upload.stream());
  for (int64_t first = 0; first < count; first += most) {
    const int64_t rows = std::min(most, count - first), words = rows * row_words;
    upload.send(tensor, DType::u8, first, rows, row_bytes);
    launch(upload.stream(), {dim3(static_cast<unsigned>((words + kThreads - 1) / kThreads)), dim3(kThreads)},
           regroup, static_cast<const uint8_t*>(upload.slab()), static_cast<int>(row_bytes), sizes.width,
           memory.as<FourBits>() + first * row_words, words, row_words);
  }
  return memory;
}

// Scales are read two at a time.
size_t scale_bytes(int64_t scales) { return static_cast<size_t>(rounded_up(scales, 2)) * sizeof(uint16_t); }

// A quantized matrix of `count` rows of D.
PackedMatrix quantized_rows(PackedParameters& packed, const Matrix& matrix, int64_t count, Upload& upload,
                            const char* what) {
  const Sizes& sizes = packed.sizes;
  const bool four = packed.dtype == DType::u8;
  DeviceMemory values =
      four ? regrouped(packed, matrix.values, count, upload, what)
           : padded_rows(packed, matrix.values, DType::i8, count, sizes.width, sizes.stride, upload, what);
  const int64_t width = four ? FourBits::scales_of(sizes.width) : 1;
  DeviceMemory scales = zeroed(packed, scale_bytes(count * width), what, upload.stream());
  const int64_t most = upload.rows_at_once(width, DType::f16);
  for (int64_t first = 0; first < count; first += most) {
    const int64_t rows = std::min(most, count - first);
    upload.send(matrix.scales, DType::f16, first, rows, width);
    check(cudaMemcpyAsync(scales.as<uint16_t>() + first * width, upload.slab(),
                          static_cast<size_t>(rows * width) * sizeof(uint16_t), cudaMemcpyDeviceToDevice,
                          upload.stream()),
          "copying scales on the GPU");
  }
  return {std::move(values), std::move(scales)};
}

// (H, D, N), or quantized (H, N, D)
PackedMatrix packed_encoder(PackedParameters& packed, const Matrix& matrix, Upload& upload,
                            const char* what) {
  if (matrix.group != 0) return quantized_rows(packed, matrix, packed.sizes.rows(), upload, what);
  return {neuron_major(packed, matrix.values, upload, what), {}};
}

// (count, D)
PackedMatrix packed_rows(PackedParameters& packed, const Matrix& matrix, int64_t count, Upload& upload,
                         const char* what) {
  if (matrix.group != 0) return quantized_rows(packed, matrix, count, upload, what);
  const Sizes& sizes = packed.sizes;
  return {padded_rows(packed, matrix.values, packed.dtype, count, sizes.width, sizes.stride, upload, what),
          {}};
}

// (D, V), or quantized (V, D)
PackedMatrix packed_lm_head(PackedParameters& packed, const Matrix& matrix, Upload& upload) {
  const Sizes& sizes = packed.sizes;
  if (matrix.group != 0) return quantized_rows(packed, matrix, sizes.vocab, upload, "lm_head");
  return {padded_rows(packed, matrix.values, packed.dtype, sizes.width, sizes.vocab, sizes.vocab, upload,
                      "lm_head"),
          {}};
}

PackedLayer packed_layer(PackedParameters& packed, const Layer& layer, Upload& upload) {
  return {packed_encoder(packed, layer.encoder, upload, "the encoder"),
          packed_encoder(packed, layer.encoder_v, upload, "encoder_v"),
          packed_rows(packed, layer.decoder, packed.sizes.rows(), upload, "the decoder")};
}

size_t quantized_bytes(const Dimensions& dims, DType dtype) {
  const bool four = dtype == DType::u8;
  const int64_t stride = rounded_up(dims.width, kVector), width = four ? stride / 2 : stride,
                scales = four ? FourBits::scales_of(static_cast<int>(dims.width)) : 1,
                rows = dims.heads * dims.neurons;
  const auto bytes = [&](int64_t count) {
    return static_cast<size_t>(count * width) + scale_bytes(count * scales);
  };
  return static_cast<size_t>(3 * dims.sets) * bytes(rows) + 2 * bytes(dims.vocab);
}

size_t float_bytes(const Dimensions& dims, DType dtype) {
  const int64_t stride = rounded_up(dims.width, kVector);
  const int64_t elements =
      3 * dims.sets * dims.heads * dims.neurons * stride + dims.vocab * stride + dims.width * dims.vocab;
  return static_cast<size_t>(elements) * size_of(dtype);
}

bool is_quantized(DType dtype) { return dtype == DType::i8 || dtype == DType::u8; }

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

size_t packed_bytes(const Dimensions& dims, DType dtype) {
  return (is_quantized(dtype) ? quantized_bytes(dims, dtype) : float_bytes(dims, dtype)) +
         static_cast<size_t>(rounded_up(dims.neurons, kVector)) * sizeof(float);
}

cudaError_t kernel_image_status() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(transpose<uint32_t>));
}

std::shared_ptr<const PackedParameters> pack_parameters(const Parameters& parameters, DType dtype,
                                                        const Stream& stream) {
  require_dtype(parameters, dtype, "CUDA");
  auto packed = std::make_shared<PackedParameters>();
  packed->dims = parameters.dims;
  packed->dtype = dtype;
  packed->sizes = sizes_of(parameters.dims);
  packed->id = next_id();
  const Sizes& sizes = packed->sizes;
  const int widest = std::max({sizes.neurons, sizes.width, sizes.vocab});
  Upload upload(static_cast<size_t>(widest) * sizeof(float), stream);
  for (const Layer& layer : parameters.layers) packed->layers.push_back(packed_layer(*packed, layer, upload));
  packed->embed = packed_rows(*packed, parameters.embed, sizes.vocab, upload, "the embedding");
  packed->lm_head = packed_lm_head(*packed, parameters.lm_head, upload);
  packed->freqs = zeroed(*packed, static_cast<size_t>(rounded_up(sizes.neurons, kVector)) * sizeof(float),
                         "the frequencies", stream.get());
  check(cudaMemcpyAsync(packed->freqs.as<void>(), parameters.freqs.data,
                        static_cast<size_t>(sizes.neurons) * sizeof(float), cudaMemcpyHostToDevice,
                        stream.get()),
        "copying frequencies to the GPU");
  stream.wait();
  return packed;
}

}  // namespace bdh::cuda
