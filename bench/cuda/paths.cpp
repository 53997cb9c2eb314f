// Decoding and reading prompts, timed on the wall.
#include "bench/cuda/paths.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bench/stopwatch.h"
#include "bench/work.h"
#include "kernels/cuda/runtime.h"
#include "kernels/training.h"

namespace bdh::bench {

namespace {

constexpr int kWarmSteps = 3;
constexpr int kCountedSteps = 4;  // whose activity stands for all
constexpr int64_t kApart = 61;    // of the tokens that sequences read

double memory_in_use() {
  size_t free = 0, total = 0;
  cuda::check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return static_cast<double>(total - free);
}

void wait_for_device() { cuda::check(cudaDeviceSynchronize(), "waiting for the GPU"); }

// Sequences that go on with the text, each elsewhere in it; the token that each would choose is chosen, too.
class Decoding {
 public:
  Decoding(Subject& subject, const DecodePlan& plan)
      : subject_(subject),
        sessions_(subject.sessions(plan.position, plan.batch)),
        tokens_(sessions_.size()),
        draws_(plan.draws ? sessions_.size() : 0,
               Draw{.options = {.do_sample = false}, .vocab = subject.source().config.vocab_size}) {}

  void step(ReadOptions options = {}) {
    spans_.clear();
    for (size_t i = 0; i < sessions_.size(); ++i) {
      tokens_[i] = subject_.tokens(sessions_[i]->position() + kApart * static_cast<int64_t>(i), 1).front();
      spans_.emplace_back(&tokens_[i], 1);
    }
    options.draws = draws_;
    const std::vector<float> logits = read_batch(sessions_, spans_, options);
    for (const Draw& draw : draws_) chosen_ += draw.token;
    if (draws_.empty()) choose_from(logits);
  }

  std::vector<LayerActivity> activity() {
    std::vector<LayerActivity> activity;
    ReadOptions options;
    options.activity = &activity;
    for (int i = 0; i < kCountedSteps; ++i) step(options);
    return activity;
  }
  double session_bytes() const { return static_cast<double>(sessions_.front()->bytes()); }
  int64_t chosen() const { return chosen_; }

 private:
  void choose_from(const std::vector<float>& logits) {
    const auto vocab = static_cast<std::ptrdiff_t>(logits.size() / sessions_.size());
    for (auto row = logits.begin(); row != logits.end(); row += vocab)
      chosen_ += std::max_element(row, row + vocab) - row;
  }

  Subject& subject_;
  std::vector<Session*> sessions_;
  std::vector<int32_t> tokens_;
  std::vector<std::span<const int32_t>> spans_;
  std::vector<Draw> draws_;  // one for each session, or none
  int64_t chosen_ = 0;       // the sum of all tokens: a reason to choose them
};

// A model in training on the same micro-batch again and again.
class TrainingSteps {
 public:
  TrainingSteps(Subject& subject, int64_t sequences, int64_t tokens)
      : inputs_(subject.tokens(0, sequences * tokens)), targets_(subject.tokens(1, sequences * tokens)) {
    const Weights& weights = *subject.weights();
    const TensorMap state_dict = weights.state_dict();
    const Config& config = subject.source().config;
    Tensor freqs = state_dict.at("attn.freqs");
    freqs.shape = {config.neurons_per_head()};
    freqs.strides = {1};
    TrainingOptions options;
    options.precision = weights.dtype();
    training_ = weights.backend().new_training(config.dimensions(), freqs, options);
    for (auto* plane : {&parameters_, &gradient_, &exp_avg_, &exp_avg_sq_}) *plane = training_->new_plane();
    training_->set(*parameters_, state_dict);
    batch_ = {.sequences = sequences, .tokens = tokens, .inputs = inputs_, .targets = targets_};
    update_.decay.assign(training_->names().size(), 0.1);
    update_.gradient_scale = 1 / static_cast<double>(inputs_.size());
  }

  void step() {
    nats_ = training_->gradient(*parameters_, batch_, *gradient_).nats;
    norm_ += training_->squared_norm(*gradient_);
    training_->update(*parameters_, *exp_avg_, *exp_avg_sq_, *gradient_, update_);
    ++update_.step;
  }
  double nats_per_token() const { return nats_ / static_cast<double>(inputs_.size()); }
  double norm() const { return norm_; }

 private:
  std::vector<int32_t> inputs_, targets_;
  std::unique_ptr<Training> training_;
  std::unique_ptr<Plane> parameters_, gradient_, exp_avg_, exp_avg_sq_;
  MicroBatch batch_;
  AdamWStep update_;
  double nats_ = 0, norm_ = 0;
};

ModelSizes sizes_of(Subject& subject) { return {subject.source().config, subject.weights()->dtype()}; }

}  // namespace

std::string at_length(const char* peer, int64_t tokens) { return concat(peer, ' ', tokens); }

Case decode_case(const std::string& model, DType dtype, int64_t position, int64_t batch,
                 const std::string& how) {
  Case one{.kind = Kind::path,
           .name = concat("decode at ", position),
           .shape = concat(model, batch == 1 ? "" : concat(", ", batch, " sequences"),
                           how.empty() ? "" : ", ", how),
           .dtype = option_name(dtype)};
  if (batch == 1) one.peers = {at_length(kPeerRecompute, position), kPeerCached, kPeerGraph, kPeerHalf};
  return one;
}

Case prefill_case(const std::string& model, DType dtype, int64_t tokens, int64_t chunk,
                  const std::string& how) {
  return {.kind = Kind::path,
          .name = concat("prefill ", tokens),
          .shape = concat(model, ", chunks of ", chunk, how.empty() ? "" : ", ", how),
          .dtype = option_name(dtype),
          .peers = {at_length(kPeerForward, tokens), at_length(kPeerCompiled, tokens)}};
}

Case training_case(const std::string& model, DType dtype, int64_t sequences, int64_t tokens) {
  return {.kind = Kind::path,
          .name = concat("train ", sequences, " x ", tokens),
          .shape = model,
          .dtype = option_name(dtype)};
}

Result measure_decode(Subject& subject, const Case& of, const DecodePlan& plan) {
  Decoding decoding(subject, plan);
  for (int i = 0; i < kWarmSteps; ++i) decoding.step();
  Result result{of, {}, {}, {}, {}};
  const std::vector<LayerActivity> activity = decoding.activity();
  result.work = decode_work(sizes_of(subject), activity, static_cast<double>(plan.batch), 2);
  decoding.step();
  const double one = std::max(seconds_of([&] { decoding.step(); }), 1e-6);
  const int steps = static_cast<int>(std::clamp(plan.seconds / one, 2.0, 1000.0));
  for (int n = 0; n < plan.samples; ++n) {
    const double taken = seconds_of([&] {
      for (int i = 0; i < steps; ++i) decoding.step();
    });
    result.samples.push_back(taken / steps);
  }
  Json::Array layers;
  for (const LayerActivity& layer : activity) {
    const Densities active = densities_of(layer, sizes_of(subject));
    layers.push_back(Json::Object{{"n", active.n}, {"g", active.g}, {"pairs", active.pairs}});
  }
  result.details = {{"steps", steps},
                    {"session_bytes", decoding.session_bytes()},
                    {"densities", std::move(layers)},
                    {"chosen", decoding.chosen()}};
  return result;
}

Result measure_prefill(Subject& subject, const Case& of, int64_t tokens, int64_t chunk, int samples) {
  Result result{of, {}, {}, {}, {}};
  const std::vector<int32_t> text = subject.tokens(0, tokens);
  ReadOptions how;
  how.chunk = chunk;
  double before = 0;
  for (int n = 0; n < samples + 1; ++n) {  // the first is not kept
    Session session(subject.weights());
    wait_for_device();
    before = memory_in_use();
    const double taken = seconds_of([&] { session.read(text, how); });
    if (n > 0) result.samples.push_back(taken);
    if (n == samples) result.details = {{"memory_before", before}, {"memory_after", memory_in_use()}};
  }
  result.work = prefill_work(sizes_of(subject), static_cast<double>(tokens),
                             static_cast<double>(std::min(chunk, tokens)), 1, true);
  return result;
}

Result measure_training(Subject& subject, const Case& of, int64_t sequences, int64_t tokens, int samples) {
  Result result{of, {}, {}, {}, {}};
  TrainingSteps training(subject, sequences, tokens);
  training.step();
  wait_for_device();
  const double before = memory_in_use();
  for (int n = 0; n < samples; ++n) {
    result.samples.push_back(seconds_of([&] {
      training.step();
      wait_for_device();
    }));
  }
  result.details = {{"memory_before", before},
                    {"memory_after", memory_in_use()},
                    {"nats", training.nats_per_token()},
                    {"squared_norms", training.norm()}};
  result.work = training_work(sizes_of(subject), static_cast<double>(sequences), static_cast<double>(tokens));
  return result;
}

}  // namespace bdh::bench
