// `bdh gradients`: the loss of given targets and its gradient for every parameter, as a safetensors file.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/horizon.h"
#include "bdh/model/quantization.h"
#include "kernels/training.h"
#include "tools/command.h"
#include "tools/token_numbers.h"

namespace bdh::tools {
namespace {

struct Options {
  CommonOptions common;
  std::string tokens, targets, out, form, horizon, dtype = "f32";
  std::optional<int64_t> chunk;
};

TrainingForm training_form(const std::string& name) {
  if (name == "parallel") return TrainingForm::parallel;
  return name == "chunked" ? TrainingForm::chunked : TrainingForm::automatic;
}

std::vector<float> horizon_of_heads(const std::string& text, int64_t heads) {
  std::vector<float> horizon = parse_horizon(text.empty() ? "none" : text);
  if (horizon.size() == 1) horizon.resize(static_cast<size_t>(heads), horizon.front());
  return horizon;
}

TrainingOptions training_options(const Options& options, const Config& config) {
  TrainingOptions training;
  training.form = training_form(options.form);
  training.chunk = options.chunk.value_or(0);
  training.precision = *dtype_from_option(options.dtype);
  training.horizons = horizon_of_heads(options.horizon, config.n_head);
  for (const auto& [name, shape] : parameter_shapes(config))
    if (name != "attn.freqs") training.names.push_back(name);
  return training;
}

void require_targets(const std::vector<int32_t>& targets, size_t tokens, int64_t vocabulary) {
  if (targets.size() != tokens)
    fail(ErrorKind::invalid_argument, "there are ", tokens, " tokens and ", targets.size(),
         " targets; give each token its target, -1 where it has none");
  std::vector<int32_t> counted = targets;
  std::replace_if(
      counted.begin(), counted.end(), [](int32_t target) { return target == -1; }, 0);
  require_in_vocabulary(counted, vocabulary);
  if (std::count(targets.begin(), targets.end(), -1) == static_cast<std::ptrdiff_t>(tokens))
    fail(ErrorKind::invalid_argument, "no target counts; give one that is not -1");
}

Tensor scaled(const Tensor& tensor, float factor) {
  std::byte* data = nullptr;
  Tensor out = make_tensor(DType::f32, tensor.shape, &data);
  const auto* from = reinterpret_cast<const float*>(tensor.data);
  std::transform(from, from + tensor.numel(), reinterpret_cast<float*>(data),
                 [factor](float value) { return value * factor; });
  return out;
}

Tensor scalar(float value) {
  std::byte* data = nullptr;
  Tensor out = make_tensor(DType::f32, {}, &data);
  *reinterpret_cast<float*>(data) = value;
  return out;
}

/// `loss`, and the gradient of each parameter.
TensorMap compute(const Model& model, const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets,
                  const TrainingOptions& options) {
  const TensorMap state_dict = model.weights->state_dict();
  const auto neurons = model.config().neurons_per_head();
  Tensor freqs = state_dict.at("attn.freqs");
  freqs.shape = {neurons};
  freqs.strides = {1};
  const auto training = model.weights->backend().new_training(model.config().dimensions(), freqs, options);
  const auto parameters = training->new_plane(), gradient = training->new_plane();
  training->set(*parameters, state_dict);
  MicroBatch batch;
  batch.sequences = 1;
  batch.tokens = static_cast<int64_t>(tokens.size());
  batch.inputs = tokens;
  batch.targets = targets;
  const LossSum loss = training->gradient(*parameters, batch, *gradient);
  const auto counted = static_cast<double>(loss.tokens);
  TensorMap out = training->tensors(*gradient);
  for (auto& [name, tensor] : out) tensor = scaled(tensor, static_cast<float>(1 / counted));
  out["loss"] = scalar(static_cast<float>(loss.nats / counted));
  return out;
}

void run(const Options& options) {
  const std::vector<int32_t> tokens = parse_tokens(options.tokens), targets = parse_tokens(options.targets);
  const Model model = load_model(options.common);
  require_floats(model.config(), "a gradient");
  require_in_vocabulary(tokens, model.config().vocab_size);
  require_targets(targets, tokens.size(), model.config().vocab_size);
  const TensorMap out = compute(model, tokens, targets, training_options(options, model.config()));
  stop_if_interrupted();
  write_safetensors(options.out, out, {});
}

}  // namespace

void add_gradients(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command =
      program.subcommand("gradients", "Write the loss of given targets and its gradient for every parameter");
  add_model_options(command, options->common);
  add_adapter_option(command, options->common);
  command.option("--tokens", &options->tokens, "token numbers, as 84,111,32").required();
  command.option("--targets", &options->targets, "the token that follows each of them; -1: not counted")
      .required();
  command
      .option("--out", &options->out,
              "file to write: `loss`, the mean in nats, and its gradients by state_dict name, float32")
      .required();
  command.option("--form", &options->form, "form of attention: parallel or chunked; default: by length")
      .choices({"parallel", "chunked"});
  command.option("--chunk", &options->chunk, "tokens in a chunk; default: what suits the device")
      .range(1, int64_t{1} << 20);
  add_horizon_option(command, options->horizon, "default: none");
  command.option("--dtype", &options->dtype, "what weights and activations are rounded to; default f32")
      .choices({"f32", "bf16", "f16"});
  command.footer(
      "Example: bdh gradients model --tokens 84,111,32 --targets 111,32,98 --out gradients.safetensors");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
