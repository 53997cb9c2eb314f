// PyTorch's training checkpoints: the model comes through the importer, and its moments after it, as weights
// of the same names.
#include "bdh/train/torch_checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/dialects/dialects.h"
#include "bdh/pretrained/model_files.h"
#include "bdh/pretrained/torch_support.h"
#include "bdh/train/torch_optimizer.h"
#include "kernels/backends.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFreqs = "attn.freqs";
constexpr const char* kEma = "ema";
// What training scripts call the number of steps done.
constexpr std::array<std::string_view, 6> kStepKeys{"step",        "iter",      "iter_num",
                                                    "global_step", "iteration", "steps"};
// What parameters with and without weight decay are filled with, to see where they end up.
constexpr float kDecays = 3, kDoesNot = 5;

std::vector<std::pair<std::string, Shape>> trained_shapes(const Config& config) {
  auto shapes = parameter_shapes(config);
  std::erase_if(shapes, [](const auto& shape) { return shape.first == kFreqs; });
  return shapes;
}

/// In the order of a PyTorch module: where each layer has its own weights they are in lists, which come after
/// a module's own parameters.
std::vector<std::pair<std::string, Shape>> in_torch_order(std::vector<std::pair<std::string, Shape>> shapes) {
  std::stable_partition(shapes.begin(), shapes.end(),
                        [](const auto& shape) { return shape.first.find('.') == std::string::npos; });
  return shapes;
}

// ---- reading ----

// Of this shape, every element the same number.
Tensor filled(const Shape& shape, float value) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, {1}, &data);
  std::memcpy(data, &value, sizeof value);
  tensor.shape = shape;
  tensor.strides = Shape(shape.size(), 0);
  return tensor;
}

// The number that all elements are; nothing where they differ.
std::optional<float> only_value(const Tensor& tensor) {
  constexpr int64_t kPiece = 1 << 16;
  std::vector<float> piece(kPiece);
  std::optional<float> value;
  for (int64_t first = 0; first < tensor.numel(); first += kPiece) {
    const int64_t count = std::min(kPiece, tensor.numel() - first);
    copy_row_major(tensor, first, count, reinterpret_cast<std::byte*>(piece.data()));
    if (!value) value = piece[0];
    if (std::any_of(piece.begin(), piece.begin() + count, [&](float number) { return number != *value; }))
      return {};
  }
  return value;
}

class TorchCheckpointReader {
 public:
  TorchCheckpointReader(const fs::path& file, const fs::path& config)
      : source_(file.string()),
        whole_(open_torch_file(file, TorchParts::everything)),
        model_(open_model_file(file, config, &read_.warnings)) {}

  TorchCheckpoint read() {
    read_weights();
    const TorchMoments moments = read_torch_moments(whole_.values, whole_.beside, parameters(), source_);
    read_.warnings.insert(read_.warnings.end(), moments.warnings.begin(), moments.warnings.end());
    read_.optimizer = moments.options;
    if (moments.exp_avg.empty()) {
      start_moments(moments);
    } else {
      take_moments(moments);
    }
    read_average();
    read_state(moments.step);
    return std::move(read_);
  }

 private:
  // As the reference names them, all float32.
  void read_weights() {
    const Weights weights(model_.model.config, model_.model.weights.tensors, make_backend("cpu", 1), {},
                          source_, &read_.warnings);
    for (const auto& [name, tensor] : weights.state_dict())
      read_.checkpoint.weights.emplace(name, converted(tensor, DType::f32));
    if (weights.stored_dtype() != DType::f32)
      read_.warnings.push_back(concat(source_, ": its weights are ", torch_name_of(weights.stored_dtype()),
                                      "; training goes on with them in float32"));
  }

  // In the order of the state_dict. A tensor that stands there under two names is one parameter.
  std::vector<TorchParameter> parameters() const {
    std::vector<TorchParameter> all;
    std::set<std::pair<const std::byte*, Shape>> seen;
    for (const std::string& name : whole_.order) {
      const Tensor& tensor = whole_.tensors.at(name);
      if (!is_weight_dtype(tensor.dtype) || is_inert(plain_name(name))) continue;
      if (tensor.numel() == 0 || seen.emplace(tensor.data, tensor.shape).second)
        all.push_back({name, tensor.shape});
    }
    return all;
  }

  /// Other values in the places of the state_dict's, brought to the reference's names.
  TensorMap translated(const TensorMap& values) const {
    WeightFiles files = model_.files;
    for (auto& [name, tensor] : files.torch_files.front().tensors) {
      const auto value = values.find(name);
      if (value != values.end()) tensor = value->second;
    }
    const TensorMap all = import_tensors(files, model_.model.config.to_json()).tensors;
    TensorMap trained;
    for (const auto& [name, shape] : trained_shapes(model_.model.config)) trained.emplace(name, all.at(name));
    return trained;
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    fail(ErrorKind::unsupported, source_, ": ", reason,
         ", so that its optimizer is that of another training than bdh's; start from the weights, with "
         "--from");
  }

  void take_moments(const TorchMoments& moments) {
    check_translation(moments);
    for (const auto& [name, tensor] : translated(moments.exp_avg))
      read_.checkpoint.exp_avg.emplace(name, converted(tensor, DType::f32));
    for (const auto& [name, tensor] : translated(moments.exp_avg_sq))
      read_.checkpoint.exp_avg_sq.emplace(name, converted(tensor, DType::f32));
  }

  // A dialect that only renames and reorders keeps the training; one that scales or joins does not. Every
  // element of every parameter is followed to its place.
  void check_translation(const TorchMoments& moments) {
    const std::vector<std::string>& without = moments.options.no_decay;
    TensorMap marked;
    int64_t given = 0, arrived = 0;
    for (const auto& [name, tensor] : moments.exp_avg) {
      const bool decays = std::find(without.begin(), without.end(), name) == without.end();
      marked.emplace(name, filled(tensor.shape, decays ? kDecays : kDoesNot));
      given += tensor.numel();
    }
    read_.optimizer.no_decay.clear();
    for (const auto& [name, tensor] : translated(marked)) {
      const std::optional<float> value = tensor.dtype == DType::f32 ? only_value(tensor) : std::nullopt;
      if (value != kDecays && value != kDoesNot) {
        const bool reference = model_.model.weights.dialect == kReferenceDialect;
        refuse(concat("its optimizer does not train '", name, "' as it is",
                      reference ? "" : concat(" (", model_.model.weights.origin, ")")));
      }
      if (value == kDoesNot) read_.optimizer.no_decay.push_back(name);
      arrived += tensor.numel();
    }
    if (given != arrived)
      refuse(concat("it trains ", given, " numbers, of which the reference's model has ", arrived));
  }

  // Before the first update.
  void start_moments(const TorchMoments& moments) {
    if (!moments.options.no_decay.empty()) {
      read_.optimizer.no_decay.clear();
      for (const std::string& name : moments.options.no_decay)
        read_.optimizer.no_decay.emplace_back(plain_name(name));
    }
    for (const auto& [name, shape] : trained_shapes(model_.model.config)) {
      std::byte* ignored = nullptr;
      read_.checkpoint.exp_avg.emplace(name, make_tensor(DType::f32, shape, &ignored));
      read_.checkpoint.exp_avg_sq.emplace(name, make_tensor(DType::f32, shape, &ignored));
    }
  }

  // As write_torch_checkpoint leaves it: whole, or there is none.
  void read_average() {
    TensorMap average;
    for (const auto& [name, shape] : trained_shapes(model_.model.config)) {
      const auto found = whole_.beside.find(concat(kEma, ".", name));
      const bool fits = found != whole_.beside.end() && found->second.shape == shape &&
                        is_weight_dtype(found->second.dtype);
      if (!fits) return;
      average.emplace(name, converted(found->second, DType::f32));
    }
    read_.checkpoint.ema = std::move(average);
    read_.checkpoint.state.ema_step = count(whole_.values.find("ema_step")).value_or(0);
  }

  static std::optional<int64_t> count(const Json* value) {
    if (!value || !value->is_integer() || value->as_number() < 0 || value->as_number() >= 0x1p53) return {};
    return value->as_integer();
  }

  void read_state(int64_t step) {
    RunState& state = read_.checkpoint.state;
    state.step = state.optimizer_step = step;
    state.epoch = count(whole_.values.find("epoch")).value_or(0);
    state.config = model_.model.config.to_json();
    state.source = source_;
    for (const std::string_view key : kStepKeys) {
      const std::optional<int64_t> said = count(whole_.values.find(key));
      if (!said || *said == step) continue;
      read_.warnings.push_back(concat(source_, ": ", key, " is ", *said, ", but its optimizer has made ",
                                      step, " updates; goes on from step ", step));
    }
    read_scaler(state);
  }

  // GradScaler.state_dict().
  void read_scaler(RunState& state) const {
    const Json* scaler = whole_.values.find("scaler");
    const Json* scale = scaler ? scaler->find("scale") : nullptr;
    if (!scale || !scale->is_number() || !(scale->as_number() > 0) || scale->as_number() > 0x1p127) return;
    state.loss_scale = scale->as_number();
    state.good_steps = count(scaler->find("_growth_tracker")).value_or(0);
  }

  std::string source_;
  TorchCheckpoint read_;
  TorchFile whole_;
  ModelFiles model_;
};

// ---- writing ----

class TorchCheckpointWriter {
 public:
  TorchCheckpointWriter(const fs::path& file, const Checkpoint& checkpoint, const TorchOptimizer& optimizer)
      : file_(file),
        checkpoint_(checkpoint),
        optimizer_(optimizer),
        config_(Config::from_json(checkpoint.state.config, "the checkpoint's config")) {}

  TorchValue value() const {
    const RunState& state = checkpoint_.state;
    TorchDict model;
    for (const auto& [name, shape] : in_torch_order(parameter_shapes(config_)))
      model.emplace_back(name, tensor_in(checkpoint_.weights, name, shape, ""));
    TorchDict all{{"model", std::move(model)},
                  {"optimizer", optimizer()},
                  {"step", state.step},
                  {"epoch", state.epoch},
                  {"config", torch_value_of(state.config)}};
    if (!checkpoint_.ema.empty()) {
      all.emplace_back(kEma, average());
      all.emplace_back("ema_step", state.ema_step);
    }
    if (state.loss_scale != 1) all.emplace_back("scaler", scaler());
    return all;
  }

 private:
  const Tensor& tensor_in(const TensorMap& tensors, const std::string& name, const Shape& shape,
                          std::string_view what) const {
    const auto found = tensors.find(name);
    if (found != tensors.end() && found->second.shape == shape) return found->second;
    fail(ErrorKind::invalid_argument, "cannot write ", file_.string(), ": the checkpoint's ", what,
         printable(name), found == tensors.end() ? " is missing" : " has another shape than its config says",
         "; take another checkpoint");
  }

  TorchValue average() const {
    TorchDict average;
    for (const auto& [name, shape] : trained_shapes(config_))
      average.emplace_back(name, tensor_in(checkpoint_.ema, name, shape, "average of "));
    return average;
  }

  TorchValue scaler() const {
    return TorchDict{{"scale", checkpoint_.state.loss_scale},
                     {"growth_factor", 2.0},
                     {"backoff_factor", 0.5},
                     {"growth_interval", int64_t{2000}},
                     {"_growth_tracker", checkpoint_.state.good_steps}};
  }

  // Numbered as PyTorch numbers them: one group after the other.
  TorchValue optimizer() const {
    const auto shapes = in_torch_order(trained_shapes(config_));
    for (const std::string& name : optimizer_.no_decay) {
      if (std::any_of(shapes.begin(), shapes.end(), [&](const auto& shape) { return shape.first == name; }))
        continue;
      fail(ErrorKind::invalid_argument, "cannot write ", file_.string(), ": no_decay names ", printable(name),
           ", which is no parameter of the model");
    }
    TorchDict state;
    TorchList groups;
    int64_t next = 0;
    for (const bool decays : {true, false}) {
      TorchList numbers, names;
      for (const auto& [name, shape] : shapes) {
        const auto& without = optimizer_.no_decay;
        if ((std::find(without.begin(), without.end(), name) == without.end()) != decays) continue;
        if (checkpoint_.state.optimizer_step > 0) state.emplace_back(next, moments(name, shape));
        numbers.emplace_back(next++);
        names.emplace_back(name);
      }
      if (!numbers.empty()) groups.emplace_back(group(std::move(numbers), std::move(names), decays));
    }
    return TorchDict{{"state", std::move(state)}, {"param_groups", std::move(groups)}};
  }

  TorchValue moments(const std::string& name, const Shape& shape) const {
    return TorchDict{{"step", filled({}, static_cast<float>(checkpoint_.state.optimizer_step))},
                     {"exp_avg", tensor_in(checkpoint_.exp_avg, name, shape, "exp_avg of ")},
                     {"exp_avg_sq", tensor_in(checkpoint_.exp_avg_sq, name, shape, "exp_avg_sq of ")}};
  }

  TorchValue group(TorchList numbers, TorchList names, bool decays) const {
    return TorchDict{{"lr", optimizer_.rate},
                     {"betas", TorchTuple{{optimizer_.beta1, optimizer_.beta2}}},
                     {"eps", optimizer_.epsilon},
                     {"weight_decay", decays ? optimizer_.weight_decay : 0.0},
                     {"amsgrad", false},
                     {"maximize", false},
                     {"foreach", nullptr},
                     {"capturable", false},
                     {"differentiable", false},
                     {"fused", nullptr},
                     {"decoupled_weight_decay", true},
                     {"params", std::move(numbers)},
                     {"param_names", std::move(names)}};
  }

  const fs::path& file_;
  const Checkpoint& checkpoint_;
  const TorchOptimizer& optimizer_;
  Config config_;
};

}  // namespace

bool is_torch_checkpoint(const fs::path& file) { return file.extension() != ".safetensors"; }

TorchCheckpoint read_torch_checkpoint(const fs::path& file, const fs::path& config) {
  return TorchCheckpointReader(file, config).read();
}

void write_torch_checkpoint(const fs::path& file, const Checkpoint& checkpoint,
                            const TorchOptimizer& optimizer) {
  if (!checkpoint.state.config.is_object())
    fail(ErrorKind::invalid_argument, "cannot write ", file.string(), ": the checkpoint has no config");
  save_torch_value(file, TorchCheckpointWriter(file, checkpoint, optimizer).value());
}

}  // namespace bdh
