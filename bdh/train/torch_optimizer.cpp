// Reads AdamW.state_dict(): param_groups, and the moments under each parameter's number.
#include "bdh/train/torch_optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/train/parameter_order.h"

namespace bdh {
namespace {

// What training scripts keep an optimizer under.
constexpr std::array<std::string_view, 8> kOptimizerKeys{"optimizer",       "optimizer_state_dict", "optim",
                                                         "optimizer_state", "optim_state_dict",     "opt",
                                                         "opt_state",       "optimizer_states"};
// Of param_groups: optimizers that keep the same moments and use them in another way.
constexpr std::array<std::string_view, 6> kForeignKeys{"momentum_decay", "correct_bias", "bias_correction",
                                                       "momentum",       "rho",          "use_muon"};
constexpr size_t kMostParameters = 10'000;

struct Group {
  std::vector<std::string> ids;    // of parameters, as state has them: "0", or names
  std::vector<std::string> names;  // param_names; empty: not said
  double rate = 0, beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0;
};

using NamesById = std::map<std::string, std::string>;

class OptimizerReader {
 public:
  OptimizerReader(const Json& values, const TensorMap& beside, const std::vector<TorchParameter>& parameters,
                  std::string_view source)
      : beside_(beside), parameters_(parameters), source_(source) {
    for (const TorchParameter& parameter : parameters) shapes_.emplace(parameter.name, parameter.shape);
    find(values);
  }

  TorchMoments read() {
    read_groups();
    read_options();
    // Before the first update there are no shapes to compare, and names matter to weight decay alone.
    const bool nameless = state_is_empty() && !has_names();
    if (nameless && std::any_of(groups_.begin(), groups_.end(), [&](const Group& group) {
          return group.weight_decay != moments_.options.weight_decay && !group.ids.empty();
        }))
      fail_ambiguous();
    if (nameless) return std::move(moments_);
    const NamesById names = has_names() ? names_as_said() : names_by_order();
    read_no_decay(names);
    if (state_is_empty()) return std::move(moments_);
    std::optional<int64_t> step;
    for (const auto& [id, name] : names) take_moments(id, name, step);
    moments_.step = step.value_or(0);
    return std::move(moments_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, ": its optimizer: ", reason...);
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... reason) const {
    fail(ErrorKind::unsupported, source_, ": its optimizer ", reason...,
         "; bdh trains with AdamW alone: start from the weights instead, with --from");
  }

  // ---- where it is ----

  void find(const Json& values) {
    for (const std::string_view key : kOptimizerKeys) {
      const Json* value = values.find(key);
      if (!value) continue;
      std::string path(key);
      if (value->is_array()) {
        if (value->as_array().size() != 1)
          refuse("is a list of ", value->as_array().size(), " under ", printable(key));
        value = &value->as_array().front();
        path += ".0";
      }
      if (!value->is_object()) continue;
      if (optimizer_) bad("stands twice, under ", printable(path_), " and ", printable(path), "; keep one");
      optimizer_ = value;
      path_ = path;
    }
    if (optimizer_) return;
    fail(ErrorKind::bad_file, source_,
         ": holds no optimizer (optimizer, optimizer_state_dict, ...), so that training cannot go on from "
         "it; ",
         "to start from its weights, give it to --from");
  }

  const Tensor* tensor_at(const std::string& path) const {
    const auto found = beside_.find(concat(path_, ".", path));
    return found == beside_.end() ? nullptr : &found->second;
  }

  // Of a number, or of a tensor with one element.
  std::optional<double> number_at(const Json* value, const std::string& path) const {
    if (value && value->is_number()) return value->as_number();
    const Tensor* tensor = tensor_at(path);
    if (!tensor || tensor->numel() != 1) return {};
    std::array<std::byte, sizeof(int64_t)> bytes{};
    copy_row_major(*tensor, 0, 1, bytes.data());
    if (tensor->dtype == DType::i64) {
      int64_t number;
      std::memcpy(&number, bytes.data(), sizeof number);
      return static_cast<double>(number);
    }
    if (!is_weight_dtype(tensor->dtype)) return {};
    double number;
    convert(tensor->dtype, bytes.data(), DType::f64, reinterpret_cast<std::byte*>(&number), 1);
    return number;
  }

  // ---- param_groups ----

  void read_groups() {
    const Json* groups = optimizer_->find("param_groups");
    if (!groups || !groups->is_array() || groups->as_array().empty())
      bad("it has no param_groups; save optimizer.state_dict()");
    std::set<std::string> seen;
    for (const Json& group : groups->as_array()) {
      groups_.push_back(read_group(group, concat("param_groups.", groups_.size())));
      for (const std::string& id : groups_.back().ids)
        if (!seen.insert(id).second) bad("parameter ", printable(id), " stands in its param_groups twice");
    }
    if (seen.empty()) bad("its param_groups have no parameters");
    if (seen.size() > kMostParameters) bad("it has ", seen.size(), " parameters, more than any model here");
  }

  Group read_group(const Json& json, const std::string& path) const {
    refuse_other_optimizers(json);
    Group group;
    group.rate = option(json, path, "lr");
    group.epsilon = option(json, path, "eps");
    group.weight_decay = option(json, path, "weight_decay");
    const Json* betas = json.find("betas");
    if (!betas || !betas->is_array() || betas->as_array().size() != 2)
      refuse("is not AdamW: it has no betas");
    group.beta1 = beta(betas->as_array()[0], path + ".betas.0");
    group.beta2 = beta(betas->as_array()[1], path + ".betas.1");
    group.ids = texts(json.find("params"), "params");
    if (const Json* names = json.find("param_names"); names && !names->is_null()) {
      group.names = texts(names, "param_names");
      if (group.names.size() != group.ids.size()) bad("its param_names do not fit its params");
    }
    return group;
  }

  void refuse_other_optimizers(const Json& group) const {
    for (const std::string_view key : kForeignKeys)
      if (group.find(key)) refuse("is not torch.optim.AdamW: its param_groups have ", printable(key));
    for (const std::string_view key : {"amsgrad", "maximize"}) {
      const Json* value = group.find(key);
      if (value && value->is_bool() && value->as_bool()) refuse("has ", key, " switched on");
    }
    const Json* decoupled = group.find("decoupled_weight_decay");
    if (decoupled && !group.find("amsgrad")) refuse("is RAdam");
    const Json* decay = group.find("weight_decay");
    const bool decays = decay && decay->is_number() && decay->as_number() != 0;
    if (decays && decoupled && decoupled->is_bool() && !decoupled->as_bool())
      refuse("is Adam, whose weight decay is part of the gradient");
  }

  double option(const Json& group, const std::string& path, std::string_view key) const {
    const std::optional<double> value = number_at(group.find(key), concat(path, ".", key));
    if (!value) refuse("is not AdamW: its param_groups have no ", key);
    if (!(*value >= 0 && std::isfinite(*value)))
      bad("its ", key, " is ", *value, ", no number at or above 0");
    return *value;
  }

  double beta(const Json& json, const std::string& path) const {
    const std::optional<double> value = number_at(&json, path);
    if (!value || !(*value >= 0 && *value < 1)) bad("its betas are no numbers in [0, 1)");
    return *value;
  }

  // Whole numbers, or names.
  std::vector<std::string> texts(const Json* list, const char* what) const {
    if (!list || !list->is_array()) bad("its param_groups have no ", what);
    std::vector<std::string> texts;
    for (const Json& item : list->as_array()) {
      if (item.is_string()) {
        texts.push_back(item.as_string());
      } else if (item.is_integer()) {
        texts.push_back(item.dump());
      } else {
        bad("its ", what, " hold neither numbers nor names");
      }
    }
    return texts;
  }

  // One rate, one pair of betas, one epsilon, and one weight decay beside 0 is what AdamW has here.
  void read_options() {
    const Group& first = groups_.front();
    TorchOptimizer& options = moments_.options;
    options.rate = first.rate, options.epsilon = first.epsilon;
    options.beta1 = first.beta1, options.beta2 = first.beta2;
    options.weight_decay = 0;
    const auto same = [&](double Group::*option, const char* what) {
      for (const Group& group : groups_)
        if (group.*option != first.*option && !group.ids.empty())
          refuse("has groups of parameters with different ", what, " (", first.*option, ", ", group.*option,
                 ")");
    };
    same(&Group::rate, "lr"), same(&Group::beta1, "betas"), same(&Group::beta2, "betas");
    same(&Group::epsilon, "eps");
    for (const Group& group : groups_) {
      if (group.weight_decay == 0 || group.ids.empty()) continue;
      if (options.weight_decay != 0 && options.weight_decay != group.weight_decay)
        refuse("has groups of parameters with different weight_decay (", options.weight_decay, ", ",
               group.weight_decay, ")");
      options.weight_decay = group.weight_decay;
    }
    const Json& group = optimizer_->find("param_groups")->as_array().front();
    if (options.weight_decay != 0 && !group.find("decoupled_weight_decay"))
      moments_.warnings.push_back(
          concat(source_, ": does not say whether its optimizer is AdamW or Adam, whose weight decay is ",
                 "another; taken for AdamW"));
  }

  void read_no_decay(const NamesById& names) {
    if (moments_.options.weight_decay == 0) return;
    for (const Group& group : groups_) {
      if (group.weight_decay != 0) continue;
      for (const std::string& id : group.ids) moments_.options.no_decay.push_back(names.at(id));
    }
  }

  // ---- which parameter is which ----

  bool ids_are_names() const {
    return std::all_of(groups_.begin(), groups_.end(), [this](const Group& group) {
      return std::all_of(group.ids.begin(), group.ids.end(),
                         [this](const std::string& id) { return shapes_.contains(id); });
    });
  }

  bool has_names() const {
    const auto named = [](const Group& group) { return group.names.size() == group.ids.size(); };
    return std::all_of(groups_.begin(), groups_.end(), named) || ids_are_names();
  }

  NamesById names_as_said() const {
    const bool by_id = ids_are_names();
    NamesById names;
    std::set<std::string_view> taken;
    for (const Group& group : groups_) {
      for (size_t i = 0; i < group.ids.size(); ++i) {
        const std::string& name = by_id ? group.ids[i] : group.names[i];
        if (!shapes_.contains(name))
          bad("it trains ", printable(name), ", which the state_dict does not have");
        if (!taken.insert(name).second) bad("it trains ", printable(name), " twice");
        names.emplace(group.ids[i], name);
      }
    }
    return names;
  }

  NamesById names_by_order() const {
    std::vector<Shape> entries;
    for (const TorchParameter& parameter : parameters_) entries.push_back(parameter.shape);
    std::vector<std::vector<Shape>> shapes;
    for (const Group& group : groups_) {
      shapes.emplace_back();
      for (const std::string& id : group.ids) shapes.back().push_back(moment(id, "exp_avg").shape);
    }
    std::vector<std::vector<size_t>> places;
    const Fit fit = match_in_order(entries, shapes, &places);
    if (fit == Fit::several) fail_ambiguous();
    if (fit == Fit::none)
      bad("the shapes of its moments are not those of the state_dict in its order; save both of one model");
    NamesById names;
    for (size_t g = 0; g < groups_.size(); ++g)
      for (size_t i = 0; i < places[g].size(); ++i)
        names.emplace(groups_[g].ids[i], parameters_[places[g][i]].name);
    return names;
  }

  [[noreturn]] void fail_ambiguous() const {
    bad("more than one order of the model's parameters fits its param_groups; make it of names: ",
        "torch.optim.AdamW(model.named_parameters()), in PyTorch 2.6 or later");
  }

  // ---- moments ----

  bool state_is_empty() const {
    const Json* state = optimizer_->find("state");
    return state && state->is_object() && state->as_object().empty();
  }

  const Tensor& moment(const std::string& id, const char* what) const {
    const Tensor* tensor = tensor_at(concat("state.", id, ".", what));
    if (!tensor) refuse("is not AdamW, or was cut: parameter ", printable(id), " has no ", what);
    if (!is_weight_dtype(tensor->dtype))
      bad(what, " of parameter ", printable(id), " is ", name_of(tensor->dtype), ", no floating-point type");
    return *tensor;
  }

  void take_moments(const std::string& id, const std::string& name, std::optional<int64_t>& step) {
    const Shape& shape = shapes_.at(name);
    if (tensor_at(concat("state.", id, ".max_exp_avg_sq"))) refuse("has amsgrad switched on");
    for (const auto& [what, place] :
         {std::pair{"exp_avg", &moments_.exp_avg}, std::pair{"exp_avg_sq", &moments_.exp_avg_sq}}) {
      const Tensor& tensor = moment(id, what);
      if (tensor.shape != shape)
        bad(what, " of ", printable(name), " has shape ", to_string(tensor.shape), ", the parameter ",
            to_string(shape));
      place->emplace(name, tensor);
    }
    const int64_t own = step_of(id);
    if (step && *step != own)
      refuse("has updated its parameters a different number of times (", *step, ", ", own, ")");
    step = own;
  }

  int64_t step_of(const std::string& id) const {
    constexpr double kMost = 0x1p53;
    const Json* state = optimizer_->find("state");
    const Json* entry = state ? state->find(id) : nullptr;
    const std::optional<double> step =
        number_at(entry ? entry->find("step") : nullptr, concat("state.", id, ".step"));
    if (!step) bad("parameter ", printable(id), " has no step");
    if (!(*step >= 0 && *step <= kMost && std::floor(*step) == *step))
      bad("the step of parameter ", printable(id), " is ", *step, ", no whole number");
    return static_cast<int64_t>(*step);
  }

  const TensorMap& beside_;
  const std::vector<TorchParameter>& parameters_;
  std::string_view source_;
  const Json* optimizer_ = nullptr;
  std::string path_;  // of the optimizer among values
  std::vector<Group> groups_;
  std::map<std::string, Shape, std::less<>> shapes_;  // of the state_dict
  TorchMoments moments_;
};

}  // namespace

TorchMoments read_torch_moments(const Json& values, const TensorMap& beside,
                                const std::vector<TorchParameter>& parameters, std::string_view source) {
  return OptimizerReader(values, beside, parameters, source).read();
}

}  // namespace bdh
