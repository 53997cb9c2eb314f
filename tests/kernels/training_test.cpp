// Training on a backend: loss and gradients against float64, forms, precisions, instruction sets and threads
// against one another, dropout, the optimizer against PyTorch's, planes and carried states.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/formats/safetensors.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"
#include "tests/support/training_models.h"

namespace {

using namespace bdh::test;
using bdh::AdamWStep;
using bdh::CarriedState;
using bdh::Config;
using bdh::DType;
using bdh::ErrorKind;
using bdh::LossSum;
using bdh::MicroBatch;
using bdh::Plane;
using bdh::Tensor;
using bdh::TensorMap;
using bdh::Training;
using bdh::TrainingForm;
using bdh::TrainingOptions;

constexpr double kFloat32Tolerance = 1e-5;
// Mixed precision, of small models whose few neurons cross no zero: in roundings of its dtype. Elsewhere
// gradients jump where one does, and how many do goes with the root of the rounding. PyTorch's autocast is no
// nearer (tests/parity/training_parity.py).
double rounding(DType precision) { return precision == DType::bf16 ? 0x1p-8 : 0x1p-11; }
// Fewer models are tried where that is slow, so that their median strays further.
double without_crossings(DType precision) { return unless_slow(12, 24) * rounding(precision); }
double with_crossings(DType precision) { return 4 * std::sqrt(rounding(precision)); }

// A model to be trained, with its parameters and room for a gradient.
struct Trained {
  std::shared_ptr<bdh::Backend> backend;
  std::unique_ptr<Training> training;
  std::unique_ptr<Plane> parameters, gradient;

  Trained(const Config& config, const TensorMap& weights, const TrainingOptions& options = {},
          int threads = 1, const std::string& variant = "")
      : backend(bdh::test::backend(threads, variant)) {
    Tensor freqs = weights.at("attn.freqs");
    freqs.shape = {config.neurons_per_head()};
    freqs.strides = {1};
    training = backend->new_training(config.dimensions(), freqs, options);
    parameters = training->new_plane();
    gradient = training->new_plane();
    training->set(*parameters, weights);
  }

  LossSum read(const MicroBatch& batch, CarriedState* carried = nullptr) {
    return training->gradient(*parameters, batch, *gradient, carried);
  }
  TensorMap gradients() const { return training->tensors(*gradient); }
};

// Those of a file whose names begin with `prefix`, without it.
TensorMap tensors_of(const std::filesystem::path& path, const std::string& prefix) {
  const bdh::SafetensorsFile file = bdh::SafetensorsFile::open(path);
  TensorMap out;
  for (const bdh::TensorInfo& info : file.tensors())
    if (info.name.starts_with(prefix)) out[info.name.substr(prefix.size())] = file.tensor(info.name);
  return out;
}

struct Case {
  std::string name;
  Config config;
  int64_t sequences, tokens;
  std::vector<float> horizons;
};

// Widths, neurons, heads and lengths that fit no tile.
std::vector<Case> cases() {
  const std::vector<Case> few = {
      {"two tokens", config_of(2, 16, 2, 4, 17), 1, 2, {}},
      {"three heads, uneven", config_of(3, 12, 3, 10, 29), 3, 17, {}},
      {"one untied head", untied(config_of(2, 33, 1, 2, 13)), 1, 65, {}},
      {"horizon by head", config_of(2, 12, 3, 10, 29), 1, 65, {3.0f, INFINITY, 20.0f}}};
  const std::vector<Case> more = {
      {"one head, one token", config_of(2, 16, 1, 4, 17), 1, 1, {}},
      {"five heads, uneven", config_of(2, 7, 5, 10, 256), 1, 65, {}},
      {"untied", untied(config_of(3, 20, 2, 5, 40)), 3, 17, {}},
      {"horizon", config_of(2, 16, 2, 4, 17), 3, 17, {6.5f, 6.5f}},
      {"untied, horizon", untied(config_of(2, 20, 2, 5, 40)), 2, 33, {9.0f, 2.0f}},
      {"wide", config_of(2, 48, 4, 16, 300), 2, 40, {}}};
  std::vector<Case> all = few;
  if (!kSlow) all.insert(all.end(), more.begin(), more.end());
  return all;
}

TrainingOptions in_form(TrainingForm form, int64_t chunk = 0) {
  TrainingOptions options;
  options.form = form;
  options.chunk = chunk;
  return options;
}

struct Form {
  std::string name;
  TrainingForm form;
  int64_t chunk;
};
std::vector<Form> forms() {
  if (kSlow) return {{"parallel", TrainingForm::parallel, 0}, {"chunks of 16", TrainingForm::chunked, 16}};
  return {{"automatic", TrainingForm::automatic, 0}, {"parallel", TrainingForm::parallel, 0},
          {"chunks", TrainingForm::chunked, 0},      {"chunks of 1", TrainingForm::chunked, 1},
          {"chunks of 3", TrainingForm::chunked, 3}, {"chunks of 16", TrainingForm::chunked, 16},
          {"one chunk", TrainingForm::chunked, 1000}};
}

void check_gradients(const TensorMap& got, const ReferenceLoss& want, double tolerance) {
  const NamedNumbers numbers = named_numbers(got);
  CHECK(numbers.size() == want.gradients.size());
  for (const auto& named : want.gradients) {
    CAPTURE(named.first);
    REQUIRE(numbers.count(named.first) == 1);
    CHECK(relative_error(numbers.at(named.first), named.second) <= tolerance);
  }
}

void check_loss(const LossSum& got, const ReferenceLoss& want, double tolerance) {
  CHECK(got.tokens == want.tokens);
  CHECK(std::abs(got.nats - want.nats) <= tolerance * std::max(1.0, want.nats));
}

// Each case in one precision, every form and variant, against float64.
void check_float32() {
  for (const Case& tried : cases()) {
    CAPTURE(tried.name);
    const TensorMap weights = training_weights(tried.config, 5);
    const TrainingTokens tokens = training_tokens(tried.config, tried.sequences, tried.tokens, 9);
    const ReferenceLoss want = reference_gradient(reference_model(tried.config, tried.horizons),
                                                  named_numbers(weights), tokens.batch());
    for (const std::string& variant : variants()) {
      CAPTURE(variant);
      for (const Form& form : forms()) {
        CAPTURE(form.name);
        TrainingOptions options = in_form(form.form, form.chunk);
        options.horizons = tried.horizons;
        Trained trained(tried.config, weights, options, 1, variant);
        check_loss(trained.read(tokens.batch()), want, kFloat32Tolerance);
        check_gradients(trained.gradients(), want, kFloat32Tolerance);
      }
    }
  }
}

// The largest error of a parameter's gradient.
double worst_error(const TensorMap& got, const ReferenceLoss& want) {
  double worst = 0;
  for (const auto& [name, numbers] : named_numbers(got))
    worst = std::max(worst, relative_error(numbers, want.gradients.at(name)));
  return worst;
}

// The errors of one model's gradients in every variant and form.
std::vector<double> mixed_errors(const Case& tried, uint64_t seed, float deviation, DType precision) {
  const TensorMap weights = training_weights(tried.config, seed, deviation);
  const TrainingTokens tokens = training_tokens(tried.config, tried.sequences, tried.tokens, seed);
  const ReferenceLoss want = reference_gradient(reference_model(tried.config, tried.horizons),
                                                named_numbers(weights), tokens.batch());
  std::vector<double> errors;
  for (const std::string& variant : variants()) {
    for (const Form& form : forms()) {
      TrainingOptions options = in_form(form.form, form.chunk);
      options.horizons = tried.horizons;
      options.precision = precision;
      Trained trained(tried.config, weights, options, 1, variant);
      check_loss(trained.read(tokens.batch()), want, without_crossings(precision));
      errors.push_back(worst_error(trained.gradients(), want));
    }
  }
  return errors;
}

// The median of `models` models, in each variant and form.
void check_mixed(const Case& tried, int models, float deviation, double (*tolerance)(DType)) {
  CAPTURE(tried.name);
  for (const DType precision : {DType::bf16, DType::f16}) {
    CAPTURE(bdh::name_of(precision));
    std::vector<std::vector<double>> errors;
    for (int seed = 0; seed < models; ++seed)
      errors.push_back(mixed_errors(tried, static_cast<uint64_t>(seed), deviation, precision));
    for (size_t i = 0; i < errors.front().size(); ++i) {
      const auto less = [i](const auto& a, const auto& b) { return a[i] < b[i]; };
      std::nth_element(errors.begin(), errors.begin() + models / 2, errors.end(), less);
      CHECK(errors[static_cast<size_t>(models / 2)][i] <= tolerance(precision));
    }
  }
}

MicroBatch part_of(const TrainingTokens& whole, int64_t part, int64_t tokens) {
  MicroBatch batch = whole.batch();
  batch.tokens = tokens;
  const auto from = static_cast<size_t>(part * whole.sequences * tokens);
  const auto count = static_cast<size_t>(whole.sequences * tokens);
  batch.inputs = batch.inputs.subspan(from, count);
  batch.targets = batch.targets.subspan(from, count);
  return batch;
}

// Rows of a decoder's gradient (H*N, D) that are not zero.
std::vector<bool> rows_in(const Tensor& decoder) {
  const std::vector<float> all = values<float>(decoder);
  const auto width = static_cast<size_t>(decoder.shape[1]);
  std::vector<bool> rows;
  for (size_t at = 0; at < all.size(); at += width)
    rows.push_back(std::any_of(&all[at], &all[at] + width, [](float x) { return x != 0; }));
  return rows;
}

double dot(const TensorMap& a, const TensorMap& b) {
  double sum = 0;
  const NamedNumbers left = named_numbers(a), right = named_numbers(b);
  for (const auto& [name, numbers] : left)
    for (size_t i = 0; i < numbers.size(); ++i) sum += numbers[i] * right.at(name)[i];
  return sum;
}

// a + factor * b, in float32.
TensorMap moved(const TensorMap& a, const TensorMap& b, double factor) {
  TensorMap out;
  for (const auto& [name, tensor] : a) {
    if (b.count(name) == 0) continue;
    const std::vector<float> from = values<float>(tensor), along = values<float>(b.at(name));
    std::byte* data = nullptr;
    out[name] = bdh::make_tensor(DType::f32, tensor.shape, &data);
    for (size_t i = 0; i < from.size(); ++i)
      reinterpret_cast<float*>(data)[i] = static_cast<float>(double{from[i]} + factor * double{along[i]});
  }
  return out;
}

// PyTorch's bits, but on processors that cannot multiply and add with one rounding.
void check_update(const TensorMap& got, const TensorMap& want, const std::string& variant) {
  if (variant != "baseline") CHECK(same_bits(got, want));
  for (const auto& [name, numbers] : named_numbers(want))
    CHECK(relative_error(named_numbers(got).at(name), numbers) < 1e-7);
}

TrainingOptions with_dropout(float share, uint64_t seed = 3) {
  TrainingOptions options;
  options.dropout = share;
  options.seed = seed;
  return options;
}

}  // namespace

TEST_CASE("training: float32 loss and gradients are those of float64, in every form and variant") {
  check_float32();
}

TEST_CASE("training: loss and gradients are PyTorch's") {
  for (const std::string name : {"three_heads", "untied", "horizon"}) {
    CAPTURE(name);
    const std::filesystem::path folder = std::filesystem::path(kTestData) / "training" / name;
    const Config config = Config::from_json(bdh::Json::parse(read_file(folder / "config.json"), name), name);
    const TensorMap golden = tensors_of(folder / "gradients.safetensors", "");
    const auto inputs = values<int32_t>(golden.at("tokens")), targets = values<int32_t>(golden.at("targets"));
    MicroBatch batch;
    batch.sequences = 1;
    batch.tokens = static_cast<int64_t>(inputs.size());
    batch.inputs = inputs;
    batch.targets = targets;
    TrainingOptions options;
    if (golden.contains("horizon")) options.horizons = values<float>(golden.at("horizon"));
    Trained trained(config, tensors_of(folder / "model.safetensors", ""), options, 2);
    const LossSum loss = trained.read(batch);
    ReferenceLoss want;  // PyTorch's is of the mean
    want.gradients = named_numbers(tensors_of(folder / "gradients.safetensors", "gradient."));
    want.tokens = loss.tokens;
    for (auto& [parameter, numbers] : want.gradients)
      for (double& number : numbers) number *= static_cast<double>(loss.tokens);
    want.nats = want.gradients.at("loss").front();
    want.gradients.erase("loss");
    check_loss(loss, want, kFloat32Tolerance);
    check_gradients(trained.gradients(), want, kFloat32Tolerance);
  }
}

TEST_CASE("training: mixed precision is near float64 where no neuron crosses zero") {
  for (const Case& tried : {Case{"tied", config_of(2, 8, 2, 2, 7), 1, 4, {}},
                            Case{"odd heads", config_of(1, 6, 3, 2, 7), 2, 3, {}},
                            Case{"untied, horizon", untied(config_of(2, 7, 1, 2, 7)), 1, 4, {3.0f}}})
    check_mixed(tried, unless_slow(21, 3), 0.4f, without_crossings);
}

TEST_CASE("training: mixed precision is as far from float64 elsewhere as rounding takes it") {
  for (const Case& tried : cases())
    if (tried.tokens == 17) check_mixed(tried, unless_slow(3, 1), 0.15f, with_crossings);
}

// A backend of 16-bit operands has what autocast has then: an infinite score.
TEST_CASE("training: float16 where scores and a are past its largest number" *
          doctest::skip(kOnCuda && kSlow)) {
  const Config config = config_of(2, 16, 2, 8, 20);
  TensorMap weights = training_weights(config, 5);
  const TensorMap encoder{{"encoder", weights.at("encoder")}};
  weights["encoder"] = moved(encoder, encoder, 0x1p10 - 1).at("encoder");
  const TrainingTokens tokens = training_tokens(config, 3, 33, 9);
  for (const std::string& variant : variants()) {
    CAPTURE(variant);
    for (const Form& form : forms()) {
      CAPTURE(form.name);
      TrainingOptions options = in_form(form.form, form.chunk);
      const double exact = Trained(config, weights, options, 1, variant).read(tokens.batch()).nats;
      options.precision = DType::f16;
      Trained half(config, weights, options, 1, variant);
      CHECK(std::abs(half.read(tokens.batch()).nats - exact) <= with_crossings(DType::f16) * exact);
      CHECK(std::isfinite(half.training->squared_norm(*half.gradient)));
    }
  }
}

TEST_CASE("training: a state carried over three micro-batches, in every form") {
  for (const Case& tried : {Case{"tied", config_of(2, 12, 3, 10, 29), 2, 7, {}},
                            Case{"horizon", untied(config_of(2, 20, 2, 5, 40)), 3, 5, {9.0f, 2.0f}}}) {
    CAPTURE(tried.name);
    const TensorMap weights = training_weights(tried.config, 5);
    const ReferenceModel model = reference_model(tried.config, tried.horizons);
    const TrainingTokens tokens = training_tokens(tried.config, tried.sequences, 3 * tried.tokens, 9);
    for (const std::string& variant : variants()) {
      CAPTURE(variant);
      for (const Form& form : forms()) {
        CAPTURE(form.name);
        TrainingOptions options = in_form(form.form, form.chunk);
        options.horizons = tried.horizons;
        Trained trained(tried.config, weights, options, 2, variant);
        const auto carried = trained.training->new_carried_state(tried.sequences);
        ReferenceState state;
        for (int64_t part = 0; part < 3; ++part) {
          CAPTURE(part);
          const MicroBatch batch = part_of(tokens, part, tried.tokens);
          const ReferenceLoss want = reference_gradient(model, named_numbers(weights), batch, &state);
          check_loss(trained.read(batch, carried.get()), want, kFloat32Tolerance);
          check_gradients(trained.gradients(), want, kFloat32Tolerance);
          CHECK(carried->position() == state.position);
        }
        const std::vector<float> saved = values<float>(carried->save());
        CHECK(relative_error({saved.begin(), saved.end()}, state.s) <= kFloat32Tolerance);
      }
    }
  }
}

TEST_CASE("training: the same bits on any number of threads, in every form, precision and variant") {
  const Case one_layer = {"one layer", config_of(1, 12, 2, 10, 29), 2, 17, {6.5f, 20.0f}};
  for (const Case& tried : kSlow ? std::vector<Case>{one_layer} : cases()) {
    CAPTURE(tried.name);
    const TensorMap weights = training_weights(tried.config, 5);
    const TrainingTokens tokens = training_tokens(tried.config, tried.sequences, tried.tokens, 9);
    for (const std::string& variant : variants()) {
      CAPTURE(variant);
      for (const DType precision : {DType::f32, DType::bf16, DType::f16}) {
        CAPTURE(bdh::name_of(precision));
        for (const TrainingForm form : {TrainingForm::parallel, TrainingForm::chunked}) {
          TrainingOptions options = with_dropout(0.2f);
          options.form = form;
          options.precision = precision;
          options.horizons = tried.horizons;
          options.chunk = form == TrainingForm::chunked ? 16 : 0;
          Trained one(tried.config, weights, options, 1, variant);
          const LossSum loss = one.read(tokens.batch(4));
          const TensorMap gradients = one.gradients();
          for (const int threads : unless_slow<std::vector<int>>({2, 3}, {2})) {
            CAPTURE(threads);
            Trained more(tried.config, weights, options, threads, variant);
            CHECK(more.read(tokens.batch(4)).nats == loss.nats);
            CHECK(same_bits(more.gradients(), gradients));
          }
          one.training->trim();
          one.read(tokens.batch(4));
          CHECK(same_bits(one.gradients(), gradients));  // from zero, whatever stood there
        }
      }
    }
  }
}

TEST_CASE("training: the loss alone is the gradient's, and moves a carried state alike") {
  const Config config = config_of(2, 12, 3, 10, 29);
  const TensorMap weights = training_weights(config, 5);
  const TrainingTokens tokens = training_tokens(config, 2, 14, 9);
  for (const Form& form : forms()) {
    CAPTURE(form.name);
    Trained trained(config, weights, in_form(form.form, form.chunk), 2);
    const auto by_loss = trained.training->new_carried_state(2),
               by_gradient = trained.training->new_carried_state(2);
    for (int64_t part = 0; part < 2; ++part) {
      const MicroBatch batch = part_of(tokens, part, 7);
      const LossSum loss = trained.training->loss(*trained.parameters, batch, by_loss.get());
      const LossSum gradient = trained.read(batch, by_gradient.get());
      CHECK(loss.tokens == gradient.tokens);
      CHECK(loss.nats == doctest::Approx(gradient.nats).epsilon(1e-6));
    }
    CHECK(by_loss->position() == 14);
    CHECK(relative_difference(values<float>(by_loss->save()), values<float>(by_gradient->save())) < 1e-6);
  }
}

TEST_CASE("training: no target that counts, and the loss scale") {
  const Config config = config_of(2, 12, 3, 10, 29);
  const TensorMap weights = training_weights(config, 5);
  TrainingTokens tokens = training_tokens(config, 2, 9, 9);
  Trained trained(config, weights, {}, 2);
  MicroBatch batch = tokens.batch();
  trained.read(batch);
  const TensorMap once = trained.gradients();
  batch.loss_scale = 1024;
  const LossSum scaled = trained.read(batch);
  for (const auto& [name, numbers] : named_numbers(trained.gradients())) {
    std::vector<double> want = named_numbers(once).at(name);
    for (double& value : want) value *= 1024;
    CHECK(relative_error(numbers, want) < 1e-6);
  }
  CHECK(scaled.nats == doctest::Approx(trained.training->loss(*trained.parameters, tokens.batch()).nats));

  std::fill(tokens.targets.begin(), tokens.targets.end(), -1);
  const LossSum none = trained.read(tokens.batch());
  CHECK(none.tokens == 0);
  CHECK(none.nats == 0);
  CHECK(trained.training->squared_norm(*trained.gradient) == 0);
}

TEST_CASE("training: dropout keeps to the mask of its number, drops its share, and scales what is left") {
  const Config config = untied(config_of(2, 16, 2, 64, 17));  // 1024 neurons a layer
  const TensorMap weights = training_weights(config, 5);
  const TrainingTokens tokens =
      training_tokens(config, 1, 2, 9);  // token 0 has no g, so that rows tell the mask
  Trained whole(config, weights);
  whole.read(tokens.batch());
  const std::vector<bool> active = rows_in(whole.gradients().at("decoder.0"));
  constexpr float kShare = 0.3f;
  Trained trained(config, weights, with_dropout(kShare), 2);
  int64_t neurons = 0, left = 0;
  std::vector<bool> before;
  for (uint64_t number = 0; number < unless_slow(20u, 4u); ++number) {
    const LossSum loss = trained.read(tokens.batch(number));
    const TensorMap gradients = trained.gradients();
    const std::vector<bool> rows = rows_in(gradients.at("decoder.0"));
    for (size_t i = 0; i < rows.size(); ++i) {
      neurons += active[i];
      left += rows[i];
      CHECK((active[i] || !rows[i]));
    }
    CHECK(rows != before);
    before = rows;
    CHECK(trained.read(tokens.batch(number)).nats == loss.nats);
    CHECK(same_bits(trained.gradients(), gradients));

    const std::vector<bool> second = rows_in(gradients.at("decoder.1"));
    CHECK(rows != second);  // layers have masks of their own
    const auto mask = [&](int64_t layer, int64_t, int64_t, int64_t neuron) {
      return (layer == 0 ? rows : second)[neuron] ? 1 / (1 - double{kShare}) : 0.0;
    };
    const ReferenceLoss want =
        reference_gradient(reference_model(config), named_numbers(weights), tokens.batch(), nullptr, mask);
    check_loss(loss, want, kFloat32Tolerance);
    check_gradients(gradients, want, kFloat32Tolerance);
  }
  REQUIRE(neurons > unless_slow(2000, 500));
  const double share = 1 - static_cast<double>(left) / static_cast<double>(neurons);
  CHECK(std::abs(share - double{kShare}) < 4 * std::sqrt(0.21 / static_cast<double>(neurons)));

  Trained other(config, weights, with_dropout(kShare, 4), 2);
  other.read(tokens.batch(19));
  CHECK(rows_in(other.gradients().at("decoder.0")) != before);  // another seed, another mask
}

TEST_CASE("training: dropout is the same in every form, and its gradient is the difference of its loss") {
  const Config config = config_of(2, 16, 2, 8, 17);
  const TensorMap weights = training_weights(config, 5);
  const TrainingTokens tokens = training_tokens(config, 3, 20, 9);
  const MicroBatch batch = tokens.batch(7);
  Trained trained(config, weights, with_dropout(0.4f), 2);
  const LossSum loss = trained.read(batch);
  const TensorMap gradients = trained.gradients();
  CHECK(loss.nats != trained.training->loss(*trained.parameters, batch).nats);
  for (const Form& form : forms()) {
    CAPTURE(form.name);
    TrainingOptions options = with_dropout(0.4f);
    options.form = form.form;
    options.chunk = form.chunk;
    Trained other(config, weights, options);
    CHECK(other.read(batch).nats == doctest::Approx(loss.nats).epsilon(1e-5));
    for (const auto& [name, numbers] : named_numbers(other.gradients()))
      CHECK(relative_error(numbers, named_numbers(gradients).at(name)) <= 2 * kFloat32Tolerance);
  }
  const double norm = std::sqrt(dot(gradients, gradients)), step = 1e-3 / norm;
  const auto loss_at = [&](double factor) {
    trained.training->set(*trained.parameters, moved(weights, gradients, factor));
    return trained.read(batch).nats;
  };
  CHECK((loss_at(step) - loss_at(-step)) / (2 * step) == doctest::Approx(norm * norm).epsilon(0.01));
}

TEST_CASE("training: dropout of 0 is none, and other shares are refused") {
  const Config config = tiny_config();
  const TensorMap weights = training_weights(config, 5);
  const TrainingTokens tokens = training_tokens(config, 2, 9, 9);
  Trained none(config, weights), zero(config, weights, with_dropout(0.0f, 77));
  none.read(tokens.batch());
  zero.read(tokens.batch(5));
  CHECK(same_bits(none.gradients(), zero.gradients()));
  for (const float share : {1.0f, -0.1f, NAN})
    CHECK(thrown_by([&] { Trained refused(config, weights, with_dropout(share)); }).kind ==
          ErrorKind::invalid_argument);
}

TEST_CASE("training: planes hold every parameter under its name and shape, tied and untied") {
  for (const Config& config : {config_of(2, 7, 5, 10, 33), untied(config_of(3, 20, 2, 5, 40))}) {
    const TensorMap weights = training_weights(config, 5);
    Trained trained(config, weights);
    CHECK(trained.training->names() == bdh::trained_names(config.dimensions()));
    TensorMap want = weights;
    want.erase("attn.freqs");
    CHECK(same_bits(trained.training->tensors(*trained.parameters), want));
    CHECK(trained.training->squared_norm(*trained.training->new_plane()) == 0);

    std::vector<float> host(static_cast<size_t>(trained.training->floats()));
    CHECK(trained.training->floats() >= config.parameters());
    trained.training->to_host(*trained.parameters, host);
    const auto other = trained.training->new_plane();
    trained.training->from_host(host, *other);
    CHECK(same_bits(trained.training->tensors(*other), want));
    CHECK(trained.training->squared_norm(*other) == trained.training->squared_norm(*trained.parameters));
    trained.training->copy(*trained.parameters, *trained.gradient);
    CHECK(same_bits(trained.gradients(), want));

    TensorMap halves = weights;
    for (auto& [name, tensor] : halves) tensor = bdh::converted(tensor, DType::bf16);
    trained.training->set(*trained.parameters, halves);
    CHECK(same_bits(bdh::converted(trained.training->tensors(*trained.parameters).at("lm_head"), DType::bf16),
                    halves.at("lm_head")));

    for (const std::string& name : trained.training->names()) {
      CAPTURE(name);
      TensorMap missing = weights, wrong = weights;
      missing.erase(name);
      wrong[name].shape.push_back(1);
      wrong[name].strides.push_back(1);
      for (const TensorMap& bad : {missing, wrong}) {
        const Thrown thrown = thrown_by([&] { trained.training->set(*trained.parameters, bad); });
        CHECK(thrown.kind == ErrorKind::bad_file);
        CHECK(thrown.says(name));
      }
    }
  }
}

TEST_CASE("training: a model of one layer keeps the names it was given") {
  const Config config = untied(config_of(1, 16, 2, 4, 17));
  const TensorMap weights = training_weights(config, 5);
  TrainingOptions options;
  options.names = {"decoder.0", "encoder.0", "encoder_v.0", "lm_head", "embed.weight"};
  Trained trained(config, weights, options);
  TensorMap want = weights;
  want.erase("attn.freqs");
  CHECK(same_bits(trained.training->tensors(*trained.parameters), want));
}

TEST_CASE("training: sums, squares and averages of planes") {
  const Config config = config_of(2, 7, 5, 10, 33);
  const TensorMap first = training_weights(config, 5), second = training_weights(config, 6);
  for (const std::string& variant : variants()) {
    CAPTURE(variant);
    Trained trained(config, first, {}, 2, variant);
    Training& training = *trained.training;
    CHECK(training.squared_norm(*trained.parameters) == doctest::Approx(dot(first, first)).epsilon(1e-12));
    const auto other = training.new_plane(), average = training.new_plane();
    training.set(*other, second);
    training.copy(*trained.parameters, *average);
    training.average(*average, *other, 0.75);
    training.add(*trained.parameters, *other);
    const NamedNumbers averaged = named_numbers(training.tensors(*average));
    const NamedNumbers a = named_numbers(first), b = named_numbers(second);
    TensorMap sum = moved(first, second, 1);
    sum.erase("attn.freqs");
    CHECK(same_bits(training.tensors(*trained.parameters), sum));
    for (const auto& [name, numbers] : averaged) {
      std::vector<double> want;
      for (size_t i = 0; i < numbers.size(); ++i) want.push_back(0.75 * a.at(name)[i] + 0.25 * b.at(name)[i]);
      CHECK(relative_error(numbers, want) < 1e-7);
    }
    for (const float bad : {NAN, INFINITY}) {
      std::vector<float> host(static_cast<size_t>(training.floats()));
      training.to_host(*other, host);
      host[host.size() / 2] = bad;
      training.from_host(host, *other);
      CHECK_FALSE(std::isfinite(training.squared_norm(*other)));
    }
  }
}

TEST_CASE("training: AdamW's updates are those of torch.optim.AdamW, bit for bit") {
  const auto golden_tensors = [](const std::string& prefix) {
    return tensors_of(std::filesystem::path(kTestData) / "training" / "adamw.safetensors", prefix);
  };
  const Config config = config_of(2, 5, 2, 8, 11);  // as tests/parity/training_parity.py has it
  TensorMap before = golden_tensors("before.");
  before["attn.freqs"] = training_weights(config, 1).at("attn.freqs");
  for (const std::string& variant : variants()) {
    CAPTURE(variant);
    for (const double scale : {1.0, 0.5}) {
      Trained trained(config, before, {}, 2, variant);
      Training& training = *trained.training;
      const auto exp_avg = training.new_plane(), exp_avg_sq = training.new_plane();
      AdamWStep step;
      step.gradient_scale = scale;
      for (const std::string& name : training.names())
        step.decay.push_back(name == "embed.weight" ? 0.0 : 0.1);
      for (step.step = 1; step.step <= 4; ++step.step) {
        CAPTURE(step.step);
        step.rate = 1e-3 / static_cast<double>(step.step);
        const std::string number = std::to_string(step.step) + ".";
        TensorMap gradient = golden_tensors("gradient." + number);
        training.set(*trained.gradient, moved(gradient, gradient, 1 / scale - 1));
        training.update(*trained.parameters, *exp_avg, *exp_avg_sq, *trained.gradient, step);
        check_update(training.tensors(*exp_avg), golden_tensors("exp_avg." + number), variant);
        check_update(training.tensors(*exp_avg_sq), golden_tensors("exp_avg_sq." + number), variant);
        check_update(training.tensors(*trained.parameters), golden_tensors("after." + number), variant);
      }
    }
  }
}

TEST_CASE("training: a carried state is saved and restored to the same bits") {
  const Config config = config_of(2, 12, 3, 10, 29);
  const TensorMap weights = training_weights(config, 5);
  const TrainingTokens tokens = training_tokens(config, 2, 21, 9);
  Trained trained(config, weights, {}, 2);
  const auto state = trained.training->new_carried_state(2), other = trained.training->new_carried_state(2);
  trained.read(part_of(tokens, 0, 7), state.get());
  const Tensor saved = state->save();
  CHECK(saved.shape == bdh::Shape{2, 2, 3, 40, 12});
  trained.read(part_of(tokens, 2, 7), other.get());  // to be forgotten
  other->restore(saved, state->position());
  CHECK(other->position() == 7);
  const LossSum loss = trained.read(part_of(tokens, 1, 7), state.get());
  const TensorMap gradients = trained.gradients();
  CHECK(trained.read(part_of(tokens, 1, 7), other.get()).nats == loss.nats);
  CHECK(same_bits(trained.gradients(), gradients));
  CHECK(same_bits(state->save(), other->save()));

  other->reset();
  CHECK(other->position() == 0);
  const LossSum fresh = trained.read(part_of(tokens, 1, 7), other.get());
  CHECK(fresh.nats ==
        doctest::Approx(trained.training->loss(*trained.parameters, part_of(tokens, 1, 7)).nats));
  CHECK(fresh.nats != loss.nats);

  Tensor wrong = saved;
  wrong.shape[1] = 1;
  CHECK(thrown_by([&] { other->restore(wrong, 7); }).kind == ErrorKind::bad_file);
}
