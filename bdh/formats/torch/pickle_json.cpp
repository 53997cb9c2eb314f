// A pickle's plain values as JSON, by recursion of bounded depth and work.
#include "bdh/formats/torch/pickle_json.h"

#include <algorithm>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

using Kind = PickleValue::Kind;

constexpr int kMaxDepth = 100;
constexpr size_t kBaseWork = size_t{1} << 16;
constexpr size_t kWorkPerByte = 4;
constexpr size_t kValueWork = 16;

class Converter {
 public:
  Converter(const Pickle& pickle, const std::string& source)
      : pickle_(pickle), source_(source), work_(kBaseWork + kWorkPerByte * pickle.size) {}

  // `depth` containers lie around the value.
  Json convert(const PickleValue& value, int depth) {
    spend(kValueWork);
    switch (value.kind) {
      case Kind::boolean:
        return value.integer != 0;
      case Kind::integer:
        return value.integer;
      case Kind::real:
        return value.real;
      case Kind::string:
      case Kind::global:
        return text(value);
      case Kind::tuple:
      case Kind::list:
        return array(value, depth + 1);
      case Kind::dict:
        return object(value, depth + 1);
      default:
        return nullptr;
    }
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, reason..., "; the file is damaged, get it again from its source");
  }

  void spend(size_t work) {
    if (work > work_) bad(" grows out of proportion to the file");
    work_ -= work;
  }

  std::string text(const PickleValue& value) {
    spend(value.extent);
    return std::string(value.text());
  }

  void check_depth(int depth) const {
    if (depth > kMaxDepth) bad(" is nested more than ", kMaxDepth, " levels deep");
  }

  Json array(const PickleValue& value, int depth) {
    check_depth(depth);
    Json::Array array;
    for (const PickleValue& item : pickle_.items(value)) array.push_back(convert(item, depth));
    return array;
  }

  Json object(const PickleValue& value, int depth) {
    check_depth(depth);
    const std::vector<PickleValue>& items = pickle_.items(value);
    Json::Object object;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      std::string name = key(items[i]);
      object.emplace_back(std::move(name), convert(items[i + 1], depth));
    }
    reject_duplicates(object);
    return object;
  }

  std::string key(const PickleValue& value) {
    if (value.kind == Kind::integer) return std::to_string(value.integer);
    if (value.kind != Kind::string) bad(" has a key that is neither a string nor a whole number");
    return text(value);
  }

  void reject_duplicates(const Json::Object& object) const {
    std::vector<std::string_view> keys;
    for (const auto& [name, value] : object) keys.emplace_back(name);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end()) bad(": the key ", printable(*twice), " stands twice");
  }

  const Pickle& pickle_;
  const std::string& source_;
  size_t work_;  // what may still be made
};

}  // namespace

Json json_of(const Pickle& pickle, const PickleValue& value, const std::string& source) {
  return Converter(pickle, source).convert(value, 0);
}

}  // namespace bdh
