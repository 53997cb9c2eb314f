// Makes decode's buffers layer by layer, and the families that use them.
#include "bench/cuda/decode_cases.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/decode_reference.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/gate_decode.h"
#include "kernels/cuda/logits.h"

namespace bdh::bench {

namespace {

using namespace bdh::cuda;

constexpr int kMostCopies = 16;
constexpr int64_t kApart = 61;  // of the tokens that sequences read

int copies_for(const Sizes& sizes, int batch, int64_t past_cache) {
  const auto together = static_cast<int64_t>(DeviceState::bytes_for(sizes)) * batch;
  return static_cast<int>(std::clamp<int64_t>((past_cache + together - 1) / together, 1, kMostCopies));
}

}  // namespace

Case decode_kernel_case(const std::string& kernel, const std::string& model, int batch,
                        const std::string& dtype) {
  return {.kind = Kind::kernel,
          .name = kernel,
          .shape = concat(model, ", ", batch, batch == 1 ? " sequence" : " sequences"),
          .dtype = dtype};
}

DecodeInputs::DecodeInputs(const GpuModel& model, int batch, int64_t position, int64_t past_cache)
    : model_(model), batch_(batch) {
  const Sizes& sizes = model.sizes();
  const int copies = copies_for(sizes, batch, past_cache);
  for (int i = 0; i < copies; ++i) {
    states_.push_back(model.states(position, batch));
    for (int layer = 0; layer < sizes.layers; ++layer) {
      Set set;
      set.layer = layer;
      fill(set, layer > 0 ? &sets_.back() : nullptr, states_.back(), position);
      activity_.push_back(count(set));
      sets_.push_back(std::move(set));
    }
  }
  restore_x();
  const DrawRequest greedy{
      .u = 0.5, .temperature = 1, .top_p = 1, .top_k = 0, .vocab = sizes.vocab, .greedy = true};
  const DrawRequest drawn{
      .u = 0.5, .temperature = 0.8f, .top_p = 0.95f, .top_k = 50, .vocab = sizes.vocab, .greedy = false};
  greedy_ = uploaded(std::vector(static_cast<size_t>(batch), greedy), model.stream());
  drawn_ = uploaded(std::vector(static_cast<size_t>(batch), drawn), model.stream());
  const size_t s_bytes = static_cast<size_t>(sizes.rows() * sizes.stride) * sizeof(float);
  saved_s_ = copy_of(states_.front().front()->s(), s_bytes, model.stream());
  model.stream().wait();
}

size_t DecodeInputs::x_bytes() const {
  return static_cast<size_t>(batch_) * static_cast<size_t>(model_.sizes().stride) * sizeof(float);
}

// Runs one layer: its x is what the layer before gave, or the embedding.
void DecodeInputs::fill(Set& set, const Set* before, const States& states, int64_t position) {
  const Sizes& sizes = model_.sizes();
  const Stream& stream = model_.stream();
  const auto sequences = static_cast<size_t>(batch_);
  set.memory = DeviceMemory(decode_bytes(sizes, batch_), "decode's buffers");
  set.arrived =
      DeviceMemory(sequences * (static_cast<size_t>(sizes.heads) + 1) * sizeof(unsigned), "counters");
  check(cudaMemsetAsync(set.arrived.as<void>(), 0, set.arrived.bytes(), stream.get()), "clearing GPU memory");
  set.buffers = decode_buffers(sizes, batch_, set.memory.as<void>());
  set.buffers.arrived = set.arrived.as<unsigned>();
  std::vector<Sequence> read;
  for (int i = 0; i < batch_; ++i)
    read.push_back({states[static_cast<size_t>(i)]->s(), model_.tokens(position + kApart * i, 1).front(),
                    static_cast<int32_t>(position)});
  check(cudaMemcpyAsync(const_cast<Sequence*>(set.buffers.sequences), read.data(),
                        sequences * sizeof(Sequence), cudaMemcpyHostToDevice, stream.get()),
        "copying tokens to the GPU");
  stream.wait();
  if (before) {
    copy(set.buffers.x, before->gated.x, x_bytes(), stream);
  } else {
    embed_decode(model_.packed(), set.buffers, stream.get());
  }
  set.own_x = copy_of(set.buffers.x, x_bytes(), stream);
  set.saved_x = copy_of(set.buffers.x, x_bytes(), stream);
  set.gated = set.buffers;
  set.gated.x = set.own_x.as<float>();
  attention_decode(model_.packed(), set.buffers, set.layer, stream.get());
  gate_decode(model_.packed(), set.gated, set.layer, stream.get());
  project_logits(model_.packed(), set.buffers.x, nullptr, batch_, set.buffers.logits, stream.get());
  stream.wait();
}

LayerActivity DecodeInputs::count(const Set& set) const {
  std::vector<DecodeCounts> totals(static_cast<size_t>(batch_));
  check(cudaMemcpyAsync(totals.data(), set.buffers.totals + int64_t{set.layer} * batch_,
                        totals.size() * sizeof(DecodeCounts), cudaMemcpyDeviceToHost, model_.stream().get()),
        "copying counts from the GPU");
  model_.stream().wait();
  LayerActivity activity;
  activity.tokens = batch_;
  for (const DecodeCounts& sequence : totals) {
    activity.n += sequence.n;
    activity.pairs += sequence.pairs;
    activity.g += sequence.g;
  }
  return activity;
}

// Every x that a layer's end wrote.
void DecodeInputs::restore_x() const {
  for (const Set& set : sets_) copy(set.own_x.as<void>(), set.saved_x.as<void>(), x_bytes(), model_.stream());
}

// S of the first set, whose results are compared, and x.
void DecodeInputs::restore() const {
  copy(states_.front().front()->s(), saved_s_.as<void>(), saved_s_.bytes(), model_.stream());
  restore_x();
}

// What a layer's end gave for the first sequences of the first set.
std::vector<float> DecodeInputs::x_of(int sequences) const {
  return floats_of(sets_.front().gated.x, DType::f32, int64_t{sequences} * model_.sizes().stride,
                   model_.stream());
}

// Both kernels of a layer, and the reference of them, which changes x and so runs once a set.
Family DecodeInputs::layer_family(const std::string& dtype) const {
  const auto set_of = [this](int i) -> const Set& { return sets_[static_cast<size_t>(i) % sets_.size()]; };
  Family family{.of = decode_kernel_case("layer_decode", model_.name(), batch_, dtype),
                .sets = static_cast<int>(sets_.size())};
  family.most = family.sets;
  family.restore = [this] { restore(); };
  family.output = [this] { return x_of(1); };  // whose S is restored
  family.variants.push_back({"bdh", [this, set_of](int i) {
                               const Set& set = set_of(i);
                               attention_decode(model_.packed(), set.buffers, set.layer,
                                                model_.stream().get());
                               gate_decode(model_.packed(), set.gated, set.layer, model_.stream().get());
                             }});
  family.variants.push_back({"reference", [this, set_of](int i) {
                               const Set& set = set_of(i);
                               decode_layer_reference(model_.packed(), set.gated, set.layer,
                                                      model_.stream().get());
                             }});
  return family;
}

std::vector<Family> DecodeInputs::families(const std::string& dtype) const {
  const ModelSizes m = model_.counted();
  const double batch = batch_;
  std::vector<Work> attention, gate;
  for (const LayerActivity& layer : activity_) {
    const Densities active = densities_of(layer, m);
    attention.push_back(attention_decode_work(m, active, batch));
    gate.push_back(gate_decode_work(m, active, batch));
  }
  const auto set_of = [this](int i) -> const Set& { return sets_[static_cast<size_t>(i) % sets_.size()]; };
  const cudaStream_t stream = model_.stream().get();
  const auto family = [&](const std::string& name, const Work& work, std::function<void(int)> queue) {
    Family made{.of = decode_kernel_case(name, model_.name(), batch_, dtype),
                .work = work,
                .sets = static_cast<int>(sets_.size())};
    made.restore = [this] { restore(); };
    made.variants.push_back({"bdh", std::move(queue)});
    return made;
  };
  std::vector<Family> families;
  families.push_back(family("attention_decode", mean(attention), [=, this](int i) {
    attention_decode(model_.packed(), set_of(i).buffers, set_of(i).layer, stream);
  }));
  families.push_back(family("gate_decode", mean(gate), [=, this](int i) {
    gate_decode(model_.packed(), set_of(i).gated, set_of(i).layer, stream);
  }));
  if (batch_ > 1) {
    families.back().output = [this] { return x_of(batch_); };
    families.back().variants.push_back({"shared lists", [=, this](int i) {
                                          DecodeBuffers buffers = set_of(i).gated;
                                          buffers.shared_lists = true;
                                          gate_decode(model_.packed(), buffers, set_of(i).layer, stream);
                                        }});
  }
  families.push_back(layer_family(dtype));
  families.back().work = mean(attention) + mean(gate);
  families.push_back(family("embed_decode", embed_work(m, batch, 0),
                            [=, this](int i) { embed_decode(model_.packed(), set_of(i).gated, stream); }));
  families.push_back(family("project_logits", logits_work(m, batch), [=, this](int i) {
    const DecodeBuffers& buffers = set_of(i).buffers;
    project_logits(model_.packed(), buffers.x, nullptr, buffers.count, buffers.logits, stream);
  }));
  const auto draw = [=, this](const DeviceMemory& requests) {
    return [=, this, &requests](int i) {
      const DecodeBuffers& buffers = set_of(i).buffers;
      draw_tokens(buffers.logits, model_.sizes().vocab, requests.as<const DrawRequest>(), buffers.count,
                  buffers.tokens, stream);
    };
  };
  families.push_back(family("draw_tokens, greedy", draw_work(m, batch), draw(greedy_)));
  families.push_back(family("draw_tokens, top_k 50, top_p 0.95", draw_work(m, batch), draw(drawn_)));
  return families;
}

}  // namespace bdh::bench
