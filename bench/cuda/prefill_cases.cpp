// Makes a chunk's buffers layer by layer, and the families that use them.
#include "bench/cuda/prefill_cases.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bench/cuda/plain.h"
#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/encode_prefill.h"
#include "kernels/cuda/gate_prefill.h"
#include "kernels/cuda/logits.h"

namespace bdh::bench {

namespace {

using namespace bdh::cuda;

constexpr int kFewRows = 1024;     // so many have their buffers twice for each layer
constexpr int64_t kCompared = 64;  // rows of a result that variants are compared by

template <class Element>
Element* offset(void* data, DType dtype, int64_t elements) {
  return reinterpret_cast<Element*>(static_cast<std::byte*>(data) +
                                    elements * static_cast<int64_t>(size_of(dtype)));
}

void* offset(void* data, DType dtype, int64_t elements) { return offset<std::byte>(data, dtype, elements); }

}  // namespace

Case prefill_kernel_case(const std::string& kernel, const std::string& model, size_t segments, int tokens,
                         const std::string& dtype) {
  const std::string sequences = segments == 1 ? concat(tokens) : concat(segments, " x ", tokens);
  return {.kind = Kind::kernel,
          .name = kernel,
          .shape = concat(model, ", ", sequences, " tokens"),
          .dtype = dtype};
}

PrefillInputs::PrefillInputs(const GpuModel& model, Blas& blas, int segments, int tokens, int64_t position)
    : model_(model), blas_(blas), tokens_(tokens), states_(model.states(position, segments)) {
  const Sizes& sizes = model.sizes();
  const int rows = segments * tokens;
  plan(position);
  counts_ = DeviceMemory(static_cast<size_t>(sizes.layers) * sizeof(PrefillCounts), "counts");
  const int sets = rows <= kFewRows ? 2 * sizes.layers : sizes.layers;
  for (int i = 0; i < sets; ++i) {
    Set set;
    set.layer = i % sizes.layers;
    fill(set, set.layer > 0 ? &sets_.back() : nullptr);
    sets_.push_back(std::move(set));
  }
  const size_t layer = layer_s_bytes();
  saved_s_ = DeviceMemory(layer * states_.size(), "a copy of S");
  for (size_t i = 0; i < states_.size(); ++i)
    copy(saved_s_.as<std::byte>() + i * layer, states_[i]->s(), layer, model.stream());
  restore_n();
  logits_ =
      DeviceMemory(static_cast<size_t>(rows) * static_cast<size_t>(sizes.vocab) * sizeof(float), "logits");
  if (has_blas()) {
    v_ = DeviceMemory(n_bytes(sets_.front()), "v of all neurons");
    half_s_ = DeviceMemory(layer / 2, "S in 16 bits");
    mixed_ = DeviceMemory(x_bytes(), "g decoder");
  }
  model.stream().wait();
}

void PrefillInputs::plan(int64_t position) {
  for (const auto& state : states_) {
    const auto first = static_cast<int32_t>(plan_.rows.size()), at = static_cast<int32_t>(position);
    const std::vector<int32_t> text = model_.tokens(position + first, tokens_);
    for (int i = 0; i < tokens_; ++i)
      plan_.rows.push_back({text[static_cast<size_t>(i)], at + i, position > 0});
    plan_.segments.push_back({state->s(), first, tokens_, position > 0});
  }
  plan_tiles(plan_, rows_of_tile(activation_dtype(model_.sizes(), model_.packed().dtype)));
  rows_ = uploaded(plan_.rows, model_.stream());
  segments_ = uploaded(plan_.segments, model_.stream());
  tiles_ = uploaded(plan_.tiles, model_.stream());
}

size_t PrefillInputs::x_bytes() const {
  return plan_.rows.size() * static_cast<size_t>(model_.sizes().stride) * sizeof(float);
}
size_t PrefillInputs::operand_bytes(const Set& set) const {
  return plan_.rows.size() * static_cast<size_t>(model_.sizes().stride) * size_of(set.buffers.activations);
}
size_t PrefillInputs::n_bytes(const Set& set) const {
  return plan_.rows.size() * static_cast<size_t>(model_.sizes().heads) *
         static_cast<size_t>(set.buffers.columns) * size_of(set.buffers.activations);
}
size_t PrefillInputs::layer_s_bytes() const {
  return static_cast<size_t>(model_.sizes().rows() * model_.sizes().stride) * sizeof(float);
}

// Runs one layer of the chunk: its x is what the layer before gave, or the embedding.
void PrefillInputs::fill(Set& set, const Set* before) {
  const Sizes& sizes = model_.sizes();
  const PackedParameters& packed = model_.packed();
  const Stream& stream = model_.stream();
  const auto rows = static_cast<int>(plan_.rows.size());
  set.memory = DeviceMemory(prefill_bytes(sizes, packed.dtype, rows, plan_.longest), "a chunk's buffers");
  set.buffers = prefill_buffers(sizes, packed.dtype, rows, plan_.longest, set.memory.as<void>());
  set.buffers.single_rows = plan_.single_rows(sizes);
  set.buffers.segments = static_cast<int>(plan_.segments.size());
  set.buffers.row_tiles = static_cast<int>(plan_.tiles.size());
  set.buffers.row = rows_.as<PrefillRow>();
  set.buffers.segment = segments_.as<PrefillSegment>();
  set.buffers.tile = tiles_.as<RowTile>();
  if (before) {
    copy(set.buffers.x, before->buffers.x, x_bytes(), stream);
    copy(set.buffers.x_operand, before->buffers.x_operand, operand_bytes(set), stream);
  } else {
    embed_prefill(packed, set.buffers, stream.get());
  }
  set.saved_x = copy_of(set.buffers.x, x_bytes(), stream);
  set.saved_operand = copy_of(set.buffers.x_operand, operand_bytes(set), stream);
  set.buffers.counts = counts_.as<PrefillCounts>();
  check(cudaMemsetAsync(counts_.as<void>(), 0, counts_.bytes(), stream.get()), "clearing GPU memory");
  encode_prefill(packed, set.buffers, set.layer, stream.get());
  set.saved_n = copy_of(set.buffers.n, n_bytes(set), stream);
  attend(set.buffers, set.layer);
  gate_prefill(packed, set.buffers, set.layer, stream.get());
  count(set);
  set.buffers.counts = nullptr;
}

void PrefillInputs::attend(const PrefillBuffers& buffers, int layer) const {
  (buffers.single_rows ? attention_rows : attention_prefill)(model_.packed(), buffers, layer,
                                                             model_.stream().get());
}

void PrefillInputs::count(const Set& set) {
  PrefillCounts counts{};
  check(cudaMemcpyAsync(&counts, set.buffers.counts + set.layer, sizeof counts, cudaMemcpyDeviceToHost,
                        model_.stream().get()),
        "copying counts from the GPU");
  model_.stream().wait();
  LayerActivity layer;
  layer.tokens = set.buffers.rows;
  layer.n = static_cast<int64_t>(counts.n);
  layer.pairs = static_cast<int64_t>(counts.pairs);
  layer.g = static_cast<int64_t>(counts.g);
  active_.push_back(densities_of(layer, model_.counted()));
}

// What the layer gets.
void PrefillInputs::restore() const {
  const size_t layer = layer_s_bytes();
  for (size_t i = 0; i < states_.size(); ++i)
    copy(states_[i]->s(), saved_s_.as<std::byte>() + i * layer, layer, model_.stream());
  for (const Set& set : sets_) {
    copy(set.buffers.x, set.saved_x.as<void>(), x_bytes(), model_.stream());
    copy(set.buffers.x_operand, set.saved_operand.as<void>(), operand_bytes(set), model_.stream());
  }
}

// The gate puts g in n's place.
void PrefillInputs::restore_n() const {
  restore();
  for (const Set& set : sets_) copy(set.buffers.n, set.saved_n.as<void>(), n_bytes(set), model_.stream());
}

// The products take whole buffers of the weights' type, all heads side by side.
bool PrefillInputs::has_blas() const {
  const PrefillBuffers& buffers = sets_.front().buffers;
  return buffers.activations == model_.packed().dtype && buffers.columns == model_.sizes().neurons;
}

// ---- by cuBLASLt ----

void PrefillInputs::encode_by_blas(const Set& set) const {
  const Sizes& sizes = model_.sizes();
  const PrefillBuffers& b = set.buffers;
  blas_.multiply({.m = b.rows,
                  .n = sizes.rows(),
                  .k = sizes.stride,
                  .a = {b.x_operand, sizes.stride},
                  .b = {model_.packed().layer(set.layer).encoder.values.as<void>(), sizes.stride, true},
                  .c = {b.n, sizes.rows()},
                  .in = b.activations,
                  .out = b.activations,
                  .relu = true},
                 model_.stream().get());
  rotate_plain(model_.packed(), b, model_.stream().get());
}

void PrefillInputs::segment_by_blas(const Set& set, const PrefillSegment& segment) const {
  const Sizes& sizes = model_.sizes();
  const PrefillBuffers& b = set.buffers;
  const cudaStream_t stream = model_.stream().get();
  const int64_t tokens = segment.count, all = sizes.rows(), stride = sizes.stride, width = b.scores_columns;
  float* s = segment.s + set.layer * all * stride;
  const Operand r{offset(b.r, b.activations, segment.first * all), all, false, b.columns};
  const Operand x{offset(b.x_operand, b.activations, segment.first * stride), stride};
  const Operand scores{offset(b.scores, b.activations, segment.first * width), width, false, b.rows * width};
  const Operand a{b.attention + segment.first * stride, stride, false, b.rows * stride};
  const bool half = b.activations != DType::f32;
  const auto multiply = [&](MatrixProduct p) {  // into float32, unless p says otherwise
    p.in = b.activations;
    p.batch = sizes.heads;
    blas_.multiply(p, stream);
  };
  Operand r_by_columns = r, r_by_rows = r;
  r_by_columns.transposed = r_by_rows.transposed = true;
  multiply({.m = tokens,
            .n = tokens,
            .k = b.columns,
            .a = r,
            .b = r_by_columns,
            .c = scores,
            .out = b.activations});
  mask_plain(const_cast<void*>(scores.data), b.activations, sizes.heads, scores.step, segment.count,
             b.scores_columns, stream);
  multiply({.m = tokens, .n = stride, .k = tokens, .a = scores, .b = x, .c = a});
  if (half) narrow_plain(s, half_s_.as<void>(), b.activations, all * stride, stream);
  const Operand read_out{half ? half_s_.as<void>() : s, stride, false, sizes.neurons * stride};
  multiply({.m = tokens, .n = stride, .k = b.columns, .a = r, .b = read_out, .c = a, .beta = 1});
  multiply({.m = b.columns,
            .n = stride,
            .k = tokens,
            .a = r_by_rows,
            .b = x,
            .c = {s, stride, false, sizes.neurons * stride},
            .beta = 1});
}

void PrefillInputs::attention_by_blas(const Set& set) const {
  for (const PrefillSegment& segment : plan_.segments) segment_by_blas(set, segment);
  norm_plain(model_.packed(), set.buffers, model_.stream().get());
}

void PrefillInputs::gate_by_blas(const Set& set) const {
  const Sizes& sizes = model_.sizes();
  const PrefillBuffers& b = set.buffers;
  const cudaStream_t stream = model_.stream().get();
  const int64_t stride = sizes.stride;
  blas_.multiply({.m = b.rows,
                  .n = sizes.neurons,
                  .k = stride,
                  .a = {b.attended, stride, false, b.rows * stride},
                  .b = {model_.packed().layer(set.layer).encoder_v.values.as<void>(), stride, true,
                        sizes.neurons * stride},
                  .c = {v_.as<void>(), sizes.rows(), false, sizes.neurons},
                  .in = b.activations,
                  .out = b.activations,
                  .relu = true,
                  .batch = sizes.heads},
                 stream);
  gate_plain(b, v_.as<void>(), b.rows * sizes.rows(), stream);
  blas_.multiply({.m = b.rows,
                  .n = stride,
                  .k = sizes.rows(),
                  .a = {b.n, sizes.rows()},
                  .b = {model_.packed().layer(set.layer).decoder.values.as<void>(), stride},
                  .c = {mixed_.as<void>(), stride},
                  .in = b.activations,
                  .out = DType::f32},
                 stream);
  mix_plain(model_.packed(), b, mixed_.as<float>(), stream);
}

void PrefillInputs::logits_by_blas(const Set& set) const {
  const Sizes& sizes = model_.sizes();
  const PrefillBuffers& b = set.buffers;
  blas_.multiply({.m = b.rows,
                  .n = sizes.vocab,
                  .k = sizes.width,
                  .a = {b.x_operand, sizes.stride},
                  .b = {model_.packed().lm_head.values.as<void>(), sizes.vocab},
                  .c = {logits_.as<void>(), sizes.vocab},
                  .in = b.activations,
                  .out = DType::f32},
                 model_.stream().get());
}

// ---- families ----

Family PrefillInputs::family(const std::string& name, const std::string& dtype, const Work& work) const {
  Family made{.of = prefill_kernel_case(name, model_.name(), plan_.segments.size(), tokens_, dtype),
              .work = work,
              .sets = static_cast<int>(sets_.size())};
  made.restore = [this] { restore(); };
  return made;
}

const PrefillInputs::Set& PrefillInputs::set_of(int iteration) const {
  return sets_[static_cast<size_t>(iteration) % sets_.size()];
}

// Ours, with every instruction that the GPU has for these numbers.
void PrefillInputs::add_mmas(Family& family, const Queue& queue) const {
  const bool halves = sets_.front().buffers.activations != DType::f32;
  const std::vector<Mma> mmas = halves ? mmas_of(model_.device()) : std::vector{Mma::warp};
  for (const Mma mma : mmas) {
    const std::string name = mma == mmas.front() ? "bdh" : concat("bdh, ", name_of(mma));
    family.variants.push_back({name, [this, queue, mma](int i) {
                                 PrefillBuffers buffers = set_of(i).buffers;
                                 buffers.mma = mma;
                                 queue(buffers, set_of(i).layer);
                               }});
  }
}

void PrefillInputs::add_blas(Family& family, std::function<void(const Set&)> queue) const {
  if (!has_blas()) return;
  family.variants.push_back({"cuBLAS", [this, queue = std::move(queue)](int i) { queue(set_of(i)); }});
}

int64_t PrefillInputs::compared_rows() const {
  return std::min<int64_t>(kCompared, static_cast<int64_t>(plan_.rows.size()));
}

PrefillShape PrefillInputs::shape() const {
  return {static_cast<double>(plan_.segments.size()), static_cast<double>(tokens_),
          static_cast<double>(size_of(sets_.front().buffers.activations))};
}

Family PrefillInputs::encode_family(const std::string& dtype) const {
  Family made = family("encode_prefill", dtype, encode_prefill_work(model_.counted(), shape()));
  add_mmas(made, [this](const PrefillBuffers& buffers, int layer) {
    encode_prefill(model_.packed(), buffers, layer, model_.stream().get());
  });
  add_blas(made, [this](const Set& set) { encode_by_blas(set); });
  made.output = [this] {
    const PrefillBuffers& b = sets_.front().buffers;
    return floats_of(b.r, b.activations, compared_rows() * model_.sizes().heads * b.columns, model_.stream());
  };
  return made;
}

// Single rows have no product in their attention.
Family PrefillInputs::attention_family(const std::string& dtype) const {
  const ModelSizes m = model_.counted();
  std::vector<Work> rows;
  for (const Densities& active : active_)
    rows.push_back(attention_rows_work(m, active, static_cast<double>(plan_.rows.size())));
  Family made = single_rows() ? family("attention_rows", dtype, mean(rows))
                              : family("attention_prefill", dtype, attention_prefill_work(m, shape()));
  const auto queue = [this](const PrefillBuffers& buffers, int layer) { attend(buffers, layer); };
  if (single_rows()) {
    made.variants.push_back({"bdh", [this, queue](int i) { queue(set_of(i).buffers, set_of(i).layer); }});
  } else {
    add_mmas(made, queue);
    add_blas(made, [this](const Set& set) { attention_by_blas(set); });
  }
  made.output = [this] {
    const PrefillBuffers& b = sets_.front().buffers;
    return floats_of(b.attended, b.activations, compared_rows() * model_.sizes().stride, model_.stream());
  };
  return made;
}

// Each set's n is there for one gate.
Family PrefillInputs::gate_family(const std::string& dtype) const {
  Family made = family("gate_prefill", dtype, gate_prefill_work(model_.counted(), shape()));
  made.most = made.sets;
  made.restore = [this] { restore_n(); };
  add_mmas(made, [this](const PrefillBuffers& buffers, int layer) {
    gate_prefill(model_.packed(), buffers, layer, model_.stream().get());
  });
  add_blas(made, [this](const Set& set) { gate_by_blas(set); });
  made.output = [this] {
    return floats_of(sets_.front().buffers.x, DType::f32, compared_rows() * model_.sizes().stride,
                     model_.stream());
  };
  return made;
}

Family PrefillInputs::embed_family(const std::string& dtype) const {
  Family made =
      family("embed_prefill", dtype, embed_work(model_.counted(), shape().rows(), shape().activation));
  made.variants.push_back(
      {"bdh", [this](int i) { embed_prefill(model_.packed(), set_of(i).buffers, model_.stream().get()); }});
  return made;
}

Family PrefillInputs::logits_family(const std::string& dtype) const {
  Family made = family("project_logits", dtype, logits_work(model_.counted(), shape().rows()));
  made.variants.push_back({"bdh", [this](int i) {
                             const PrefillBuffers& buffers = set_of(i).buffers;
                             project_logits(model_.packed(), buffers.x, nullptr, buffers.rows,
                                            logits_.as<float>(), model_.stream().get());
                           }});
  add_blas(made, [this](const Set& set) { logits_by_blas(set); });
  made.output = [this] {
    return floats_of(logits_.as<void>(), DType::f32, compared_rows() * model_.sizes().vocab, model_.stream());
  };
  return made;
}

// Each family's restore() puts back what the one before it changed.
std::vector<Family> PrefillInputs::families(const std::string& dtype) const {
  std::vector<Family> families;
  families.push_back(encode_family(dtype));
  families.push_back(attention_family(dtype));
  families.push_back(gate_family(dtype));
  if (single_rows()) return families;
  families.push_back(logits_family(dtype));
  families.push_back(embed_family(dtype));
  return families;
}

}  // namespace bdh::bench
