// Packing: slabs of each matrix go through page-locked memory to the GPU, which transposes the encoders to
// neuron-major rows.
#include "kernels/cuda/packed.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "bdh/base/error.h"
#include "kernels/cuda/device.h"

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

// Rows of a tensor as `dtype`, through page-locked memory.
class Upload {
 public:
  Upload(DType dtype, int64_t widest, const Stream& stream)
      : dtype_(dtype),
        stream_(stream),
        staging_(std::max(kStagingBytes, static_cast<size_t>(widest) * size_of(dtype))),
        slab_(staging_.bytes(), "the GPU's copy of a slab of weights") {}

  int64_t rows_at_once(int64_t width) const {
    return static_cast<int64_t>(staging_.bytes() / (static_cast<size_t>(width) * size_of(dtype_)));
  }

  // Rows [first, first + count) of `tensor` seen as rows of `width` elements, in the GPU's slab.
  void send(const Tensor& tensor, int64_t first, int64_t count, int64_t width) {
    const size_t elements = static_cast<size_t>(count * width), element = size_of(tensor.dtype);
    const std::byte* from = tensor.data + static_cast<size_t>(first * width) * element;
    stream_.wait();
    convert(tensor.dtype, from, dtype_, staging_.as<std::byte>(), elements);
    release(tensor, static_cast<size_t>(first * width) * element, elements * element);
    check(cudaMemcpyAsync(slab_.as<void>(), staging_.as<void>(), elements * size_of(dtype_),
                          cudaMemcpyHostToDevice, stream_.get()),
          "copying weights to the GPU");
  }

  const void* slab() const { return slab_.as<void>(); }
  cudaStream_t stream() const { return stream_.get(); }
  DType dtype() const { return dtype_; }

 private:
  DType dtype_;
  const Stream& stream_;
  PinnedMemory staging_;
  DeviceMemory slab_;
};

DeviceMemory zeroed(PackedParameters& packed, int64_t elements, DType dtype, const char* what,
                    cudaStream_t stream) {
  DeviceMemory memory(static_cast<size_t>(elements) * size_of(dtype), what);
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
  DeviceMemory memory = zeroed(packed, sizes.rows() * sizes.stride, upload.dtype(), what, upload.stream());
  const int64_t most = std::min<int64_t>(upload.rows_at_once(sizes.neurons), sizes.width);
  for (int64_t head = 0; head < sizes.heads; ++head) {
    for (int64_t d = 0; d < sizes.width; d += most) {
      const int64_t height = std::min<int64_t>(most, sizes.width - d),
                    at = head * sizes.neurons * sizes.stride;
      upload.send(encoder, head * sizes.width + d, height, sizes.neurons);
      if (size_of(upload.dtype()) == 4) {
        transpose_slab(upload, height, sizes.neurons, memory.as<uint32_t>() + at, sizes.stride, d);
      } else {
        transpose_slab(upload, height, sizes.neurons, memory.as<uint16_t>() + at, sizes.stride, d);
      }
    }
  }
  return memory;
}

// (count, width) -> (count, stride)
DeviceMemory padded_rows(PackedParameters& packed, const Tensor& tensor, int64_t count, int64_t width,
                         int64_t stride, Upload& upload, const char* what) {
  DeviceMemory memory = zeroed(packed, count * stride, upload.dtype(), what, upload.stream());
  const size_t element = size_of(upload.dtype()), row = static_cast<size_t>(width) * element,
               pitch = static_cast<size_t>(stride) * element;
  const int64_t most = upload.rows_at_once(width);
  for (int64_t first = 0; first < count; first += most) {
    const int64_t rows = std::min(most, count - first);
    upload.send(tensor, first, rows, width);
    check(cudaMemcpy2DAsync(memory.as<std::byte>() + static_cast<size_t>(first) * pitch, pitch, upload.slab(),
                            row, row, static_cast<size_t>(rows), cudaMemcpyDeviceToDevice, upload.stream()),
          "padding rows of weights");
  }
  return memory;
}

PackedLayer packed_layer(PackedParameters& packed, const Layer& layer, Upload& upload) {
  const Sizes& sizes = packed.sizes;
  return {neuron_major(packed, layer.encoder.values, upload, "the encoder"),
          neuron_major(packed, layer.encoder_v.values, upload, "encoder_v"),
          padded_rows(packed, layer.decoder.values, sizes.rows(), sizes.width, sizes.stride, upload,
                      "the decoder")};
}

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

size_t packed_bytes(const Dimensions& dims, DType dtype) {
  const int64_t stride = rounded_up(dims.width, kVector);
  const int64_t elements =
      3 * dims.sets * dims.heads * dims.neurons * stride + dims.vocab * stride + dims.width * dims.vocab;
  return static_cast<size_t>(elements) * size_of(dtype) +
         static_cast<size_t>(rounded_up(dims.neurons, kVector)) * sizeof(float);
}

cudaError_t kernel_image_status() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(transpose<uint32_t>));
}

std::shared_ptr<const PackedParameters> pack_parameters(const Parameters& parameters, DType dtype,
                                                        const Stream& stream) {
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f16) {
    fail(ErrorKind::unsupported, "the CUDA backend runs weights as F32, BF16 or F16, not ", name_of(dtype));
  }
  auto packed = std::make_shared<PackedParameters>();
  packed->dims = parameters.dims;
  packed->dtype = dtype;
  packed->sizes = sizes_of(parameters.dims);
  packed->id = next_id();
  const Sizes& sizes = packed->sizes;
  Upload upload(dtype, std::max({sizes.neurons, sizes.width, sizes.vocab}), stream);
  for (const Layer& layer : parameters.layers) packed->layers.push_back(packed_layer(*packed, layer, upload));
  packed->embed = padded_rows(*packed, parameters.embed.values, sizes.vocab, sizes.width, sizes.stride,
                              upload, "the embedding");
  packed->lm_head = padded_rows(*packed, parameters.lm_head.values, sizes.width, sizes.vocab, sizes.vocab,
                                upload, "lm_head");
  packed->freqs =
      zeroed(*packed, rounded_up(sizes.neurons, kVector), DType::f32, "the frequencies", stream.get());
  check(cudaMemcpyAsync(packed->freqs.as<void>(), parameters.freqs.data,
                        static_cast<size_t>(sizes.neurons) * sizeof(float), cudaMemcpyHostToDevice,
                        stream.get()),
        "copying frequencies to the GPU");
  stream.wait();
  return packed;
}

}  // namespace bdh::cuda
