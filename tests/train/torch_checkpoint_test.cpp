// PyTorch's training checkpoints, read and written; what PyTorch itself says of them is in
// tests/parity/torch_checkpoint_parity.py.
#include "bdh/train/torch_checkpoint.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/formats/torch/torch_file.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/torch_support.h"
#include "bdh/train/parameter_order.h"
#include "tests/support/checkpoints.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::Checkpoint;
using bdh::Fit;
using bdh::Shape;
using bdh::TorchCheckpoint;
using bdh::TorchOptimizer;
using bdh::test::checkpoint_at;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;

Fit fit_of(const std::vector<Shape>& entries, const std::vector<std::vector<Shape>>& groups,
           std::vector<std::vector<size_t>> wanted = {}) {
  std::vector<std::vector<size_t>> places;
  const Fit fit = bdh::match_in_order(entries, groups, &places);
  if (fit == Fit::one) CHECK(places == wanted);
  return fit;
}

}  // namespace

TEST_CASE("torch checkpoint: parameters by order and shape, where one assignment alone fits") {
  const Shape a{2, 3}, b{3, 2}, c{5};
  CHECK(fit_of({a, b, c}, {{a, b, c}}, {{0, 1, 2}}) == Fit::one);
  CHECK(fit_of({a, b, c, b}, {{a, b, b}}, {{0, 1, 3}}) == Fit::one);
  CHECK(fit_of({a, a, b}, {{a, b}}) == Fit::several);
  CHECK(fit_of({a, b}, {{b, a}}) == Fit::none);
  CHECK(fit_of({a, b}, {{a, b, c}}) == Fit::none);
  CHECK(fit_of({a, c, b, b}, {{a, b, b}, {c}}, {{0, 2, 3}, {1}}) == Fit::one);
  CHECK(fit_of({a, b, b}, {{a, b}, {b}}) == Fit::several);
  CHECK(fit_of({}, {{}}, {{}}) == Fit::one);
  const std::vector<Shape> many(300, a);
  std::vector<size_t> all(300);
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  CHECK(fit_of(many, {many}, {all}) == Fit::one);
  const std::vector<Shape> hundred(100, a);
  CHECK(fit_of(many, {hundred, hundred, hundred}) == Fit::several);
}

TEST_CASE("torch checkpoint: told by its ending; what is none is one error") {
  const TemporaryDirectory folder;
  bdh::test::write_file(folder / "a.pt", "no zip");
  CHECK(thrown_by([&] { bdh::read_torch_checkpoint(folder / "a.pt"); }).kind.has_value());
  CHECK(bdh::is_torch_checkpoint("run/step.pt"));
  CHECK_FALSE(bdh::is_torch_checkpoint("run/checkpoint_latest.safetensors"));
}

#ifdef BDH_TORCH

namespace {

using bdh::ErrorKind;
using bdh::Tensor;
using bdh::TorchDict;
using bdh::TorchList;
using bdh::TorchTuple;
using bdh::TorchValue;

TorchValue& at(TorchValue& value, const std::string& key) {
  for (auto& [name, member] : std::get<TorchDict>(value.value))
    if (std::get_if<std::string>(&name.value) && std::get<std::string>(name.value) == key) return member;
  auto& dict = std::get<TorchDict>(value.value);
  return dict.emplace_back(key, nullptr).second;
}

TorchValue& group(TorchValue& all, size_t number = 0) {
  return std::get<TorchList>(at(at(all, "optimizer"), "param_groups").value)[number];
}

Tensor scalar(float value) {
  std::byte* data = nullptr;
  Tensor tensor = bdh::make_tensor(bdh::DType::f32, {}, &data);
  std::memcpy(data, &value, sizeof value);
  return tensor;
}

const std::vector<std::string> kNames{"decoder", "encoder", "encoder_v", "lm_head", "embed.weight"};

/// As the reference's training would save it after so many steps.
TorchValue trained(const Checkpoint& checkpoint) {
  TorchDict model, state;
  TorchList numbers;
  for (const auto& [name, shape] : bdh::parameter_shapes(bdh::test::tiny_config()))
    model.emplace_back(name, checkpoint.weights.at(name));
  for (int64_t i = 0; i < 5; ++i) {
    const std::string& name = kNames[static_cast<size_t>(i)];
    state.emplace_back(i, TorchDict{{"step", scalar(static_cast<float>(checkpoint.state.step))},
                                    {"exp_avg", checkpoint.exp_avg.at(name)},
                                    {"exp_avg_sq", checkpoint.exp_avg_sq.at(name)}});
    numbers.emplace_back(i);
  }
  const TorchDict options{
      {"lr", 0.001},      {"betas", TorchTuple{{0.9, 0.95}}}, {"eps", 1e-8},      {"weight_decay", 0.1},
      {"amsgrad", false}, {"decoupled_weight_decay", true},   {"params", numbers}};
  return TorchDict{{"model", model},
                   {"optimizer", TorchDict{{"state", state}, {"param_groups", TorchList{options}}}},
                   {"step", checkpoint.state.step},
                   {"config", bdh::torch_value_of(bdh::test::tiny_config().to_json())}};
}

TorchCheckpoint read_value(const TorchValue& value) {
  const TemporaryDirectory folder;
  bdh::write_torch_value(folder / "a.pt", value);
  return bdh::read_torch_checkpoint(folder / "a.pt");
}

Thrown refusal(const std::function<void(TorchValue&)>& change) {
  TorchValue value = trained(checkpoint_at(3));
  change(value);
  return thrown_by([&] { read_value(value); });
}

void check_refused(const std::function<void(TorchValue&)>& change, ErrorKind kind, std::string_view words) {
  const Thrown error = refusal(change);
  CHECK(error.kind == kind);
  CHECK_MESSAGE(error.says(words), error.message);
  CHECK(error.says("a.pt"));
}

void check_same(const Checkpoint& got, const Checkpoint& want) {
  CHECK(bdh::test::same_bits(got.exp_avg, want.exp_avg));
  CHECK(bdh::test::same_bits(got.exp_avg_sq, want.exp_avg_sq));
  for (const std::string& name : kNames)
    CHECK(bdh::test::same_bits(got.weights.at(name), want.weights.at(name)));
}

}  // namespace

TEST_CASE("torch checkpoint: weights, moments, options and the step") {
  const Checkpoint wanted = checkpoint_at(3);
  const TorchCheckpoint read = read_value(trained(wanted));
  check_same(read.checkpoint, wanted);
  CHECK(read.checkpoint.state.step == 3);
  CHECK(read.checkpoint.state.optimizer_step == 3);
  CHECK(read.checkpoint.state.config == bdh::test::tiny_config().to_json());
  CHECK(read.optimizer.rate == 0.001);
  CHECK(read.optimizer.beta2 == 0.95);
  CHECK(read.optimizer.weight_decay == 0.1);
  CHECK(read.optimizer.no_decay.empty());
  CHECK(read.warnings.empty());
}

TEST_CASE("torch checkpoint: other keys, a step that is a number, another count of steps") {
  TorchValue value = trained(checkpoint_at(3));
  auto& dict = std::get<TorchDict>(value.value);
  dict[0].first = "model_state_dict";
  dict[1].first = "optimizer_state_dict";
  dict[2].first = "iter_num";
  dict[2].second = int64_t{12};
  auto& state = std::get<TorchDict>(at(dict[1].second, "state").value);
  for (auto& [id, moments] : state) at(moments, "step") = int64_t{3};
  const TorchCheckpoint read = read_value(value);
  check_same(read.checkpoint, checkpoint_at(3));
  CHECK(read.checkpoint.state.step == 3);
  REQUIRE(read.warnings.size() == 1);
  CHECK(read.warnings[0].find("iter_num is 12") != std::string::npos);
}

TEST_CASE("torch checkpoint: what is written is read again") {
  const TemporaryDirectory folder;
  const fs::path file = folder / "a.pt";
  Checkpoint wanted = checkpoint_at(12);
  wanted.state.loss_scale = 1024;
  wanted.state.good_steps = 7;
  wanted.state.ema_step = 5;
  wanted.ema.erase("attn.freqs");
  TorchOptimizer optimizer{0.25, 0.8, 0.99, 1e-6, 0.2, {}};
  SUBCASE("one group") {}
  SUBCASE("a group without weight decay") { optimizer.no_decay = {"embed.weight", "lm_head"}; }
  write_torch_checkpoint(file, wanted, optimizer);
  const TorchCheckpoint read = bdh::read_torch_checkpoint(file);
  check_same(read.checkpoint, wanted);
  CHECK(bdh::test::same_bits(read.checkpoint.ema, wanted.ema));
  CHECK(read.checkpoint.state.step == 12);
  CHECK(read.checkpoint.state.epoch == wanted.state.epoch);
  CHECK(read.checkpoint.state.loss_scale == 1024);
  CHECK(read.checkpoint.state.good_steps == 7);
  CHECK(read.checkpoint.state.ema_step == 5);
  CHECK(read.optimizer.rate == 0.25);
  CHECK(read.optimizer.epsilon == 1e-6);
  CHECK(read.optimizer.weight_decay == 0.2);
  CHECK(read.optimizer.no_decay == optimizer.no_decay);
  CHECK(read.warnings.empty());
}

TEST_CASE("torch checkpoint: before the first update moments are zero") {
  const TemporaryDirectory folder;
  Checkpoint wanted = checkpoint_at(0);
  write_torch_checkpoint(folder / "a.pt", wanted, {});
  const Checkpoint read = bdh::read_torch_checkpoint(folder / "a.pt").checkpoint;
  CHECK(read.state.step == 0);
  REQUIRE(read.exp_avg.size() == 5);
  CHECK(bdh::test::values<float>(read.exp_avg.at("lm_head")) == std::vector<float>(16 * 256));
}

TEST_CASE("torch checkpoint: untied layers") {
  const TemporaryDirectory folder;
  const bdh::Config config = bdh::test::untied(bdh::test::tiny_config());
  Checkpoint wanted = checkpoint_at(4);
  wanted.state.config = config.to_json();
  wanted.weights = bdh::random_state_dict(config, 1);
  wanted.exp_avg = bdh::random_state_dict(config, 2);
  wanted.exp_avg_sq = bdh::random_state_dict(config, 3);
  for (bdh::TensorMap* moments : {&wanted.exp_avg, &wanted.exp_avg_sq}) moments->erase("attn.freqs");
  wanted.ema.clear();
  for (const std::vector<std::string>& without : {std::vector<std::string>{}, {"encoder.1"}}) {
    write_torch_checkpoint(folder / "a.pt", wanted, {.no_decay = without});
    const TorchCheckpoint read = bdh::read_torch_checkpoint(folder / "a.pt");
    CHECK(bdh::test::same_bits(read.checkpoint.exp_avg, wanted.exp_avg));
    CHECK(bdh::test::same_bits(read.checkpoint.exp_avg_sq, wanted.exp_avg_sq));
    CHECK(read.optimizer.no_decay == without);
  }
}

TEST_CASE("torch checkpoint: names settle what order does not") {
  TorchValue value = trained(checkpoint_at(3));
  const std::vector<int64_t> order{2, 0, 1, 4, 3};
  TorchList numbers, names;
  for (const int64_t i : order) numbers.emplace_back(i), names.emplace_back(kNames[static_cast<size_t>(i)]);
  at(group(value), "params") = numbers;
  CHECK(thrown_by([&] { read_value(value); }).says("are not those of the state_dict"));
  at(group(value), "param_names") = names;
  check_same(read_value(value).checkpoint, checkpoint_at(3));
}

TEST_CASE("torch checkpoint: a dialect's names and layout, moments too") {
  Checkpoint checkpoint = checkpoint_at(3);
  TorchValue value = trained(checkpoint);
  auto& model = std::get<TorchDict>(at(value, "model").value);
  const auto turned = [](const Tensor& matrix) {
    Tensor view = matrix;
    std::swap(view.shape[0], view.shape[1]);
    std::swap(view.strides[0], view.strides[1]);
    return view;
  };
  for (auto& [name, tensor] : model) {
    if (std::get<std::string>(name.value) != "lm_head") continue;
    name = "lm_head.weight";
    tensor = turned(checkpoint.weights.at("lm_head"));
  }
  auto& state = std::get<TorchDict>(at(at(value, "optimizer"), "state").value);
  at(state[3].second, "exp_avg") = turned(checkpoint.exp_avg.at("lm_head"));
  at(state[3].second, "exp_avg_sq") = turned(checkpoint.exp_avg_sq.at("lm_head"));
  check_same(read_value(value).checkpoint, checkpoint);
}

TEST_CASE("torch checkpoint: other optimizers and contradictions are named") {
  constexpr ErrorKind kBad = ErrorKind::bad_file, kOther = ErrorKind::unsupported;
  const auto moments = [](TorchValue& all, size_t number) -> TorchValue& {
    return std::get<TorchDict>(at(at(all, "optimizer"), "state").value)[number].second;
  };
  const auto set = [](const char* key, const TorchValue& value) {
    return [key, value](TorchValue& all) { at(group(all), key) = value; };
  };
  check_refused([](TorchValue& all) { at(all, "optimizer") = nullptr; }, kBad, "holds no optimizer");
  check_refused(
      [](TorchValue& all) {
        const TorchValue again = at(all, "optimizer");
        at(all, "optim") = again;
      },
      kBad, "stands twice");
  check_refused([](TorchValue& all) { at(at(all, "optimizer"), "param_groups") = TorchList{}; }, kBad,
                "no param_groups");
  check_refused(set("betas", nullptr), kOther, "no betas");
  check_refused(set("betas", TorchTuple{{0.9, 1.0}}), kBad, "betas");
  check_refused(set("lr", -1.0), kBad, "lr is -1");
  check_refused(set("lr", std::string("fast")), kOther, "no lr");
  check_refused(set("amsgrad", true), kOther, "amsgrad");
  check_refused(set("maximize", true), kOther, "maximize");
  check_refused(set("momentum_decay", 0.004), kOther, "momentum_decay");
  check_refused(set("decoupled_weight_decay", false), kOther, "Adam, whose");
  check_refused(set("params", TorchList{int64_t{0}, int64_t{0}}), kBad, "twice");
  check_refused(set("params", TorchList{int64_t{0}, int64_t{1}}), kBad, "more than one order");
  check_refused(set("params", TorchList{int64_t{0}, int64_t{9}}), kOther, "'9' has no exp_avg");
  check_refused(set("params", TorchList{1.5}), kBad, "neither numbers nor names");
  check_refused([&](TorchValue& all) { at(moments(all, 1), "exp_avg_sq") = nullptr; }, kOther,
                "no exp_avg_sq");
  check_refused([&](TorchValue& all) { at(moments(all, 1), "exp_avg_sq") = scalar(1); }, kBad,
                "has shape ()");
  check_refused([&](TorchValue& all) { at(moments(all, 1), "max_exp_avg_sq") = scalar(1); }, kOther,
                "amsgrad");
  check_refused([&](TorchValue& all) { at(moments(all, 1), "step") = scalar(4); }, kOther,
                "different number");
  check_refused([&](TorchValue& all) { at(moments(all, 1), "step") = scalar(3.5F); }, kBad,
                "no whole number");
  check_refused([&](TorchValue& all) { at(moments(all, 1), "step") = nullptr; }, kBad, "no step");
  check_refused(
      [&](TorchValue& all) {
        TorchValue second = group(all);
        at(group(all), "params") = TorchList{int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}};
        at(second, "params") = TorchList{int64_t{4}};
        at(second, "lr") = 0.5;
        std::get<TorchList>(at(at(all, "optimizer"), "param_groups").value).push_back(second);
      },
      kOther, "different lr");
}

TEST_CASE("torch checkpoint: a frozen parameter is another training") {
  check_refused(
      [](TorchValue& all) {
        auto& state = std::get<TorchDict>(at(at(all, "optimizer"), "state").value);
        state.pop_back();
        at(group(all), "params") = TorchList{int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}};
      },
      ErrorKind::unsupported, "does not train 'embed.weight'");
}

TEST_CASE("torch checkpoint: what cannot be written is named, and nothing is written") {
  const TemporaryDirectory folder;
  const auto refused = [&](const Checkpoint& checkpoint, const TorchOptimizer& optimizer,
                           std::string_view words) {
    const Thrown error = thrown_by([&] { write_torch_checkpoint(folder / "a.pt", checkpoint, optimizer); });
    CHECK(error.kind == ErrorKind::invalid_argument);
    CHECK_MESSAGE(error.says(words), error.message);
    CHECK(fs::is_empty(folder.path()));
  };
  Checkpoint checkpoint = checkpoint_at(2);
  refused(checkpoint, {.no_decay = {"norm"}}, "'norm', which is no parameter");
  checkpoint.exp_avg.erase("encoder");
  refused(checkpoint, {}, "exp_avg of 'encoder' is missing");
  checkpoint.state.config = nullptr;
  refused(checkpoint, {}, "no config");
}

namespace {

std::vector<fs::path> files_in(const fs::path& directory, std::string_view ending) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.path().extension() == ending) files.push_back(entry.path());
  return files;
}

bdh::TensorMap tensors_in(const fs::path& path) {
  const bdh::SafetensorsFile file = bdh::SafetensorsFile::open(path);
  bdh::TensorMap tensors;
  for (const bdh::TensorInfo& info : file.tensors()) tensors.emplace(info.name, file.tensor(info.name));
  return tensors;
}

}  // namespace

TEST_CASE("torch checkpoint: those of PyTorch, as tests/parity/torch_checkpoint_parity.py wrote them") {
  const std::vector<fs::path> files = files_in(fs::path(bdh::test::kTestData) / "torch_checkpoints", ".pt");
  REQUIRE(files.size() == 4);
  const TemporaryDirectory folder;
  for (const fs::path& path : files) {
    CAPTURE(path.string());
    const TorchCheckpoint read = bdh::read_torch_checkpoint(path);
    write_checkpoint(folder / "read.safetensors", read.checkpoint);
    CHECK(bdh::test::same_bits(tensors_in(folder / "read.safetensors"),
                               tensors_in(fs::path(path).replace_extension(".safetensors"))));
    CHECK(read.checkpoint.state.step == 6);
    CHECK(read.optimizer.rate == 2e-3);
    CHECK(read.optimizer.beta2 == 0.95);
    CHECK(read.optimizer.weight_decay == 0.1);
    CHECK(read.optimizer.no_decay.empty() == (path.stem() != "groups"));
  }
}

// Driven by tests/parity/torch_checkpoint_parity.py, which sets the variable: reads what it put there, and
// writes it again in both forms.
TEST_CASE("parity: training checkpoints of PyTorch") {
  const char* directory = std::getenv("BDH_PARITY_CHECKPOINTS");
  if (directory == nullptr) return;
  for (fs::path path : files_in(directory, ".pt")) {
    const Thrown thrown = thrown_by([&] {
      const TorchCheckpoint read = bdh::read_torch_checkpoint(path);
      write_checkpoint(fs::path(path).replace_extension(".safetensors"), read.checkpoint);
      write_torch_checkpoint(fs::path(path).replace_extension(".back.pt"), read.checkpoint, read.optimizer);
    });
    if (thrown.kind) bdh::test::write_file(path.replace_extension(".error"), thrown.message);
  }
}

#endif  // BDH_TORCH
