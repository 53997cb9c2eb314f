// Which key belongs to which parameter.
#include "bdh/pretrained/adapters/by_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/adapters/matrix.h"
#include "bdh/pretrained/torch_support.h"
#include "bdh/pretrained/weight_files.h"

namespace bdh {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kMostRank = 1 << 20;
// What training noted beside the matrices, and what does not change what they are.
constexpr std::array kNotes{"alpha", "dropout", "lora_alpha", "lora_dropout", "r", "rank"};

struct Part {
  AdapterMatrix a, b;
  std::optional<double> scaling;
};

// "encoder.lora_A" is lora_A of encoder.
struct Key {
  std::string parameter, name;

  explicit Key(const std::string& path) : name(path.substr(path.rfind('.') + 1)) {
    if (name.size() < path.size()) parameter = path.substr(0, path.size() - name.size() - 1);
  }
};

bool is_part(std::string_view name) { return name == "lora_A" || name == "lora_B" || name == "scaling"; }

class HeadAdapter {
 public:
  HeadAdapter(std::string source, const Config& config) : source_(std::move(source)) {
    for (auto& [name, shape] : parameter_shapes(with_weight_bits(config, 0))) shapes_.emplace(name, shape);
  }

  void take(const std::string& path, const Tensor& tensor) {
    const Key key(path);
    if (!is_part(key.name))
      fail(ErrorKind::bad_file, source_, ": tensor ", printable(path),
           " is neither lora_A, lora_B nor scaling");
    if (!shapes_.contains(key.parameter))
      fail(ErrorKind::bad_file, source_, ": tensor ", printable(path),
           " belongs to no parameter of this model");
    Part& part = parts_[key.parameter];
    if (key.name == "scaling") {
      part.scaling = number_of({path, tensor});
    } else {
      (key.name == "lora_A" ? part.a : part.b) = {path, tensor};
    }
  }

  // What is no tensor, alone or in dictionaries. What does not stand with a parameter says nothing of it.
  void take(const std::string& path, const Json& value) {
    if (value.is_object()) {
      for (const auto& [name, inner] : value.as_object())
        take(path.empty() ? name : concat(path, ".", name), inner);
      return;
    }
    const Key key(path);
    if (!shapes_.contains(key.parameter)) return;
    if (is_part(key.name)) {  // tensors are named here, too
      if (value.is_number() && key.name == "scaling") parts_[key.parameter].scaling = value.as_number();
    } else if (std::find(kNotes.begin(), kNotes.end(), key.name) == kNotes.end()) {
      fail(ErrorKind::unsupported, source_, ": ", printable(path), " is ", printable(value.dump()),
           ", and bdh knows no adapters with that");
    }
  }

  LoraAdapter adapter() const {
    LoraAdapter adapter;
    for (const auto& [parameter, part] : parts_) adapter.updates.push_back(update_of(parameter, part));
    if (adapter.updates.empty()) fail(ErrorKind::bad_file, source_, ": there is no tensor in it");
    return adapter;
  }

 private:
  double number_of(const AdapterMatrix& scaling) const {
    if (scaling.tensor.numel() != 1)
      fail(ErrorKind::bad_file, source_, ": ", printable(scaling.name), " is not one number");
    require_shape(scaling, scaling.tensor.shape, source_);
    return static_cast<double>(*reinterpret_cast<const float*>(floats_of(scaling, source_).data));
  }

  LowRankUpdate update_of(const std::string& parameter, const Part& part) const {
    const auto missing = [&](const char* key) {
      fail(ErrorKind::bad_file, source_, ": ", parameter, ".", key, " is missing");
    };
    if (part.a.name.empty()) missing("lora_A");
    if (part.b.name.empty()) missing("lora_B");
    if (!part.scaling) missing("scaling");
    if (!std::isfinite(*part.scaling))
      fail(ErrorKind::bad_file, source_, ": ", parameter, ".scaling is not a finite number");
    Shape left = shapes_.at(parameter), right = left;
    const Shape& given = part.a.tensor.shape;
    const int64_t rank = given.empty() ? 0 : given.back();
    if (rank < 1 || rank > kMostRank)
      fail(ErrorKind::bad_file, source_, ": tensor ", printable(part.a.name), " has shape ", to_string(given),
           ", of which the last must be a rank of 1 or more");
    left.back() = rank;
    right[right.size() - 2] = rank;
    require_shape(part.a, left, source_);
    require_shape(part.b, right, source_);
    return {parameter, rank, *part.scaling, floats_of(part.a, source_), floats_of(part.b, source_)};
  }

  std::string source_;
  std::map<std::string, Shape> shapes_;
  std::map<std::string, Part> parts_;
};

}  // namespace

LoraAdapter load_head_adapter(const fs::path& file, const Config& config) {
  HeadAdapter read(file.string(), config);
  if (file.extension() == ".safetensors") {
    for (const auto& [name, tensor] : open_weights_file(file).state_dict()) read.take(name, tensor);
    return read.adapter();
  }
  const TorchFile torch = open_torch_file(file, TorchParts::nested);
  for (const auto& [name, error] : torch.unreadable) throw error;
  const bool nested = torch.tensors.empty();  // else what stands beside a state_dict is not the adapter's
  for (const auto& [name, tensor] : nested ? torch.beside : torch.tensors) read.take(name, tensor);
  read.take("", torch.values);
  return read.adapter();
}

}  // namespace bdh
