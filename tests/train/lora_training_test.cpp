// Training of an adapter: its gradients against float64, when it is merged, PEFT's losses, and a base that
// stays as it is.
#include "bdh/train/lora_training.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/pretrained/adapters/peft.h"
#include "bdh/pretrained/model.h"
#include "tests/support/backends.h"
#include "tests/support/json_numbers.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"
#include "tests/support/training_models.h"
#include "tests/support/training_runs.h"

using namespace bdh;
using namespace bdh::test;

namespace {

namespace fs = std::filesystem;

const LoraOptions kOptions{
    .on = true, .rank = 3, .alpha = 2, .targets = {"encoder", "encoder_v", "decoder", "lm_head", "embed"}};

std::unique_ptr<Training> plain_training(const Config& config, int threads = 1) {
  Tensor freqs = training_weights(config, 5).at("attn.freqs");
  freqs.shape = {config.neurons_per_head()};
  freqs.strides = {1};
  return backend(threads)->new_training(config.dimensions(), freqs, {});
}

// An adapter of which no matrix is zero, on a small model.
struct Trained {
  Config config;
  TensorMap base, matrices;
  std::unique_ptr<Training> training;
  std::unique_ptr<Plane> parameters;

  explicit Trained(const Config& of, int threads = 1)
      : config(of), base(training_weights(of, 5)), matrices(lora_matrices(of, kOptions, 9)) {
    training = new_lora_training(plain_training(config, threads), base, config, kOptions);
    parameters = training->new_plane();
    training->set(*parameters, matrices);
  }

  double loss(const TrainingTokens& tokens) { return training->loss(*parameters, tokens.batch()).nats; }

  // Of the model that the plane's matrices make.
  double merged_loss(const TrainingTokens& tokens) const {
    const auto model = plain_training(config);
    const auto weights = model->new_plane();
    model->set(*weights, merged_weights(base, training->tensors(*parameters), kOptions.scale()));
    return model->loss(*weights, tokens.batch()).nats;
  }
};

// By the chain rule, from the gradient of the merged weights.
NamedNumbers matrix_gradients(const Trained& trained, const NamedNumbers& of_weights) {
  NamedNumbers gradients;
  const NamedNumbers matrices = named_numbers(trained.matrices);
  for (const LoraTarget& target : lora_targets(trained.config, kOptions)) {
    const std::vector<double>& dw = of_weights.at(target.parameter);
    const std::string name_of_a = target.parameter + kLoraA, name_of_b = target.parameter + kLoraB;
    const std::vector<double>&a = matrices.at(name_of_a), &b = matrices.at(name_of_b);
    std::vector<double>&da = gradients[name_of_a], &db = gradients[name_of_b];
    da.resize(a.size()), db.resize(b.size());
    const auto rank = static_cast<size_t>(kOptions.rank), columns = static_cast<size_t>(target.shape.back());
    const auto rows = static_cast<size_t>(target.shape[target.shape.size() - 2]);
    for (size_t i = 0; i < dw.size(); ++i) {
      const size_t row = i / columns, head = row / rows;
      for (size_t k = 0; k < rank; ++k) {
        const size_t in_a = (head * rank + k) * columns + i % columns, in_b = row * rank + k;
        da[in_a] += kOptions.scale() * b[in_b] * dw[i];
        db[in_b] += kOptions.scale() * dw[i] * a[in_a];
      }
    }
  }
  return gradients;
}

const Config kConfigs[] = {config_of(2, 12, 3, 10, 29), untied(config_of(2, 20, 2, 5, 40))};

// 20 steps of 2 x 8 tokens.
void write_batches(const fs::path& file, const std::vector<int32_t>& numbers) {
  std::byte* data = nullptr;
  const Tensor tokens = make_tensor(DType::i32, {20, 2, 9}, &data);
  REQUIRE(numbers.size() == 360);
  std::memcpy(data, numbers.data(), tokens.bytes());
  write_safetensors(file, {{"tokens", tokens}}, {});
}

Checkpoint ended(const RunSetup& setup) {
  const auto trainer = setup.make();
  trainer->run({});
  return trainer->checkpoint();
}

}  // namespace

TEST_CASE("an adapter's gradients are those that float64 has") {
  for (const Config& config : kConfigs) {
    Trained trained(config);
    const TrainingTokens tokens = training_tokens(config, 2, 17, 3);
    const auto gradient = trained.training->new_plane();
    const LossSum loss = trained.training->gradient(*trained.parameters, tokens.batch(), *gradient);
    const TensorMap merged = merged_weights(trained.base, trained.matrices, kOptions.scale());
    const ReferenceLoss want =
        reference_gradient(reference_model(config), named_numbers(merged), tokens.batch());
    CHECK(loss.nats == doctest::Approx(want.nats).epsilon(1e-5));
    CHECK(loss.tokens == want.tokens);
    const NamedNumbers got = named_numbers(trained.training->tensors(*gradient));
    const NamedNumbers wanted = matrix_gradients(trained, want.gradients);
    REQUIRE(got.size() == wanted.size());
    for (const auto& matrix : wanted) {
      CAPTURE(matrix.first);
      CHECK(relative_error(got.at(matrix.first), matrix.second) < 1e-5);
    }
  }
}

TEST_CASE("whatever writes a plane is in the next loss") {
  const Config config = kConfigs[0];
  Trained trained(config);
  Training& training = *trained.training;
  const TrainingTokens tokens = training_tokens(config, 2, 17, 3);
  const auto other = training.new_plane(), gradient = training.new_plane(), moment = training.new_plane(),
             square = training.new_plane();
  training.set(*other, lora_matrices(config, kOptions, 31));
  training.gradient(*trained.parameters, tokens.batch(), *gradient);
  std::vector<float> floats(static_cast<size_t>(training.floats()));
  training.to_host(*other, floats);
  const AdamWStep step{.rate = 0.1, .decay = std::vector<double>(training.names().size(), 0.1)};
  Plane& plane = *trained.parameters;
  const std::vector<std::function<void()>> writers{
      [&] { training.copy(*other, plane); },
      [&] { training.add(plane, *other); },
      [&] { training.average(plane, *other, 0.5); },
      [&] { training.update(plane, *moment, *square, *gradient, step); },
      [&] { training.set(plane, trained.matrices); },
      [&] { training.from_host(floats, plane); }};
  double before = trained.loss(tokens);
  for (const auto& write : writers) {
    write();
    const double now = trained.loss(tokens);
    CHECK(now != before);
    CHECK(now == trained.merged_loss(tokens));
    before = now;
  }
}

TEST_CASE("an adapter's gradients have the same bits on any number of threads") {
  const Config config = kConfigs[0];
  const TrainingTokens tokens = training_tokens(config, 2, 17, 3);
  const auto gradients = [&](int threads) {
    Trained trained(config, threads);
    const auto gradient = trained.training->new_plane();
    trained.training->gradient(*trained.parameters, tokens.batch(), *gradient);
    return trained.training->tensors(*gradient);
  };
  const TensorMap alone = gradients(1);
  for (const int threads : thread_counts()) CHECK(same_bits(gradients(threads), alone));
}

TEST_CASE("matrices of other shapes, and a base of another model, are refused") {
  Trained trained(kConfigs[0]);
  TensorMap other = trained.matrices;
  other.erase("decoder.lora_B");
  CHECK(thrown_by([&] { trained.training->set(*trained.parameters, other); }).says("decoder.lora_B"));
  CHECK(thrown_by([&] {
          new_lora_training(plain_training(kConfigs[0]), training_weights(config_of(1, 8, 2, 4), 1),
                            kConfigs[0], kOptions);
        }).kind == ErrorKind::bad_file);
}

TEST_CASE("a run trains an adapter alone: it learns, and the base stays as it is") {
  RunSetup setup;
  setup.options.steps = 80;
  setup.options.schedule.rate = 0.02;
  setup.options.lora = kOptions;
  setup.options.sample_every = 80;
  setup.base = training_weights(setup.config, 5);
  TensorMap before;
  for (const auto& [name, tensor] : setup.base) {
    std::byte* data = nullptr;
    before.emplace(name, make_tensor(DType::f32, tensor.shape, &data));
    std::memcpy(data, tensor.data, tensor.bytes());
  }
  RunLog log;
  TrainerCallbacks callbacks = log.callbacks();
  TensorMap sampled;
  callbacks.sample = [&](const TensorMap& weights) {
    sampled = weights;
    return std::string();
  };
  const auto trainer = setup.make();
  trainer->run(callbacks);
  const Checkpoint end = trainer->checkpoint();
  CHECK(same_bits(setup.base, before));
  CHECK(log.steps.back().loss < log.steps.front().loss - 0.3);
  CHECK(end.weights.size() == 10);
  CHECK(end.exp_avg.size() == 10);
  CHECK_FALSE(end.state.base_hash.empty());
  CHECK(same_bits(sampled, merged_weights(setup.base, end.weights, kOptions.scale())));
  CHECK(same_bits(sampled.at("attn.freqs"), setup.base.at("attn.freqs")));
}

TEST_CASE("weight decay and its exceptions are those of an adapter's matrices") {
  RunSetup setup;
  setup.options.lora = kOptions;
  setup.options.steps = 3;
  setup.options.weight_decay = 0.9;
  setup.options.no_decay = {"encoder"};
  const Checkpoint some = ended(setup);
  setup.options.no_decay = {"encoder.lora_A", "encoder.lora_B"};
  CHECK(same_bits(ended(setup).weights, some.weights));
  setup.options.no_decay = {"encoder.lora_A"};
  CHECK_FALSE(same_bits(ended(setup).weights, some.weights));
  setup.options.no_decay = {"attn"};
  CHECK(thrown_by([&] {
          ended(setup);
        }).says("no_decay: the model has no parameter 'attn', but decoder.lora_A"));
}

TEST_CASE("an adapter without a base, and a base without an adapter, are refused") {
  RunSetup setup;
  setup.options.lora.targets = {"encoder", "q_proj"};
  setup.options.lora.on = true;
  CHECK(thrown_by([&] { setup.make(); }).says("lora_targets: the model has no parameter 'q_proj'"));
  setup.options.lora = kOptions;
  const auto make = [&](TensorMap base) {
    Trainer::Inputs inputs;
    inputs.config = setup.config;
    inputs.weights = initial_lora(setup.config, kOptions, 1);
    inputs.base = std::move(base);
    inputs.order = setup.order(setup);
    const auto alone = single_rank();
    return thrown_by([&] { Trainer(backend(), setup.options, std::move(inputs), *alone); });
  };
  CHECK(make({}).says("lora: an adapter needs a model"));
  setup.options.lora = {};
  CHECK(make(initial_weights(setup.config, 1)).says("lora is not set"));
}

// Written by tests/parity/lora_training_parity.py.
TEST_CASE("adapters train as PEFT and torch.optim.AdamW train them") {
  const fs::path adapters = fs::path(kTestData) / "adapters";
  const Json cases =
      Json::parse(read_file(fs::path(kTestData) / "lora_training" / "expected.json"), "expected.json");
  for (const Json& one : cases.as_array()) {
    const std::string name = one.find("adapter")->as_string();
    CAPTURE(name);
    LoadOptions load;
    load.device = "cpu";
    const Model model = Model::from_pretrained(adapters / one.find("model")->as_string(), load);
    const LoraAdapter start = load_peft_adapter(adapters / name, model.config());
    RunSetup setup;
    setup.config = model.config();
    setup.base = model.weights->state_dict();
    setup.options.lora = {.on = true, .rank = start.updates.front().rank, .targets = {}};
    setup.options.lora.alpha = start.updates.front().scale * static_cast<double>(setup.options.lora.rank);
    for (const LowRankUpdate& update : start.updates) setup.options.lora.targets.push_back(update.parameter);
    setup.weights = matrices_of(start, setup.config, setup.options.lora);
    setup.options.steps = 20;
    setup.options.accumulate = 1;
    setup.options.schedule.rate = one.find("lr")->as_number();
    setup.options.weight_decay = one.find("weight_decay")->as_number();
    setup.options.epsilon = one.find("epsilon")->as_number();
    setup.validation.clear();
    const TemporaryDirectory directory;
    write_batches(directory / "tokens.safetensors", numbers<int32_t>(*one.find("tokens")));
    setup.order = [&](const RunSetup&) { return given_batches(directory / "tokens.safetensors", 1, 19); };
    RunLog log;
    setup.make()->run(log.callbacks());
    const std::vector<double> want = numbers<double>(*one.find("losses"));
    REQUIRE(log.steps.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i)
      CHECK(log.steps[i].loss == doctest::Approx(want[i]).epsilon(1e-5));
  }
}
