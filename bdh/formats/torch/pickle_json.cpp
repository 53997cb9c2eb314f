// A pickle's plain values as JSON, by recursion of bounded depth and work.
#include "bdh/formats/torch/pickle_json.h"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "bdh/base/printable.h"

namespace bdh {
namespace {

using Kind = PickleValue::Kind;
using Items = std::vector<PickleValue>;

constexpr int kMaxDepth = 100;
constexpr size_t kBaseWork = size_t{1} << 20;
constexpr size_t kMembersWork = size_t{1} << 22;  // of all members together
constexpr size_t kMostMembers = 8192;
constexpr size_t kWorkPerByte = 4;
constexpr size_t kMostBytes = size_t{128} << 20;  // that count for work
constexpr size_t kValueWork = 16;
constexpr std::string_view kScalar = ".multiarray.scalar";
constexpr size_t kMostScalarBytes = 8;

// A whole number, little-endian.
int64_t integer_of(std::string_view bytes, bool is_signed) {
  uint64_t number = is_signed && static_cast<int8_t>(bytes.back()) < 0 ? ~uint64_t{0} : 0;
  for (size_t i = bytes.size(); i-- > 0;) number = number << 8 | static_cast<uint8_t>(bytes[i]);
  return static_cast<int64_t>(number);
}

// NumPy's code of a type, as "i8" or "f4", and the bytes of one value.
Json numpy_number(std::string_view code, std::string_view bytes) {
  const bool fits = !bytes.empty() && bytes.size() <= kMostScalarBytes && code.size() == 2 &&
                    static_cast<size_t>(code[1] - '0') == bytes.size();
  if (!fits) return nullptr;
  if (code[0] == 'i' || code[0] == 'u') return integer_of(bytes, code[0] == 'i');
  if (code[0] == 'b') return bytes[0] != 0;
  if (code == "f8") return std::bit_cast<double>(integer_of(bytes, false));
  if (code == "f4") return double{std::bit_cast<float>(static_cast<uint32_t>(integer_of(bytes, false)))};
  return nullptr;
}

class Converter {
 public:
  Converter(const Pickle& pickle, size_t work) : pickle_(pickle), work_(work) {}

  size_t work() const { return work_; }

  // `depth` containers lie around the value.
  Json convert(const PickleValue& value, int depth) {
    if (depth > kMaxDepth || !spend(kValueWork)) return nullptr;
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
        return members(pickle_.items(value), depth + 1);
      case Kind::object:
        return object(value, depth + 1);
      case Kind::tensor:
        return pickle_.describe(value);
      default:
        return nullptr;
    }
  }

 private:
  bool spend(size_t work) {
    if (work > work_) {
      work_ = 0;
      return false;
    }
    work_ -= work;
    return true;
  }

  Json text(const PickleValue& value) {
    if (!spend(value.extent) || !is_utf8(value.text())) return nullptr;
    return std::string(value.text());
  }

  Json array(const PickleValue& value, int depth) {
    Json::Array array;
    for (const PickleValue& item : pickle_.items(value)) {
      if (work_ == 0) return nullptr;
      array.push_back(convert(item, depth));
    }
    return array;
  }

  Json members(const Items& items, int depth) {
    Json::Object object;
    std::map<std::string, size_t> places;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (work_ == 0) return nullptr;
      const std::optional<std::string> name = key(items[i]);
      if (!name) continue;
      const auto [place, is_new] = places.emplace(*name, object.size());
      if (is_new) object.emplace_back(*name, nullptr);
      object[place->second].second = member(items[i + 1], depth);
    }
    return object;
  }

  // At most half of what may still be made, so that one without end takes none of the others with it.
  Json member(const PickleValue& value, int depth) {
    const size_t others = work_ / 2;
    work_ -= others;
    Json json = convert(value, depth);
    work_ += others;
    return json;
  }

  std::optional<std::string> key(const PickleValue& value) {
    if (value.kind == Kind::integer) return std::to_string(value.integer);
    if (value.kind != Kind::string || !spend(value.extent) || !is_utf8(value.text())) return {};
    return std::string(value.text());
  }

  Json object(const PickleValue& value, int depth) {
    const std::optional<Json> number = scalar(value);
    if (number) return number->is_null() ? Json(pickle_.describe(value)) : *number;
    const Items* held = pickle_.members(value);
    return held == nullptr ? argument(value, depth) : members(*held, depth);
  }

  // What is made of one plain value, as an Enum's member, is that value; all else is named.
  Json argument(const PickleValue& value, int depth) {
    const PickleValue& arguments = pickle_.part(value, PickleObject::arguments);
    if (arguments.kind != Kind::tuple || pickle_.items(arguments).size() != 1) return pickle_.describe(value);
    return convert(pickle_.items(arguments)[0], depth);
  }

  // numpy.core.multiarray.scalar(dtype, bytes).
  std::optional<Json> scalar(const PickleValue& value) const {
    const PickleValue& callee = pickle_.part(value, PickleObject::callee);
    const PickleValue& arguments = pickle_.part(value, PickleObject::arguments);
    if (callee.kind != Kind::global || !callee.text().ends_with(kScalar) || arguments.kind != Kind::tuple)
      return {};
    const Items& items = pickle_.items(arguments);
    if (items.size() != 2 || items[0].kind != Kind::object) return {};
    const PickleValue& made_of = pickle_.part(items[0], PickleObject::arguments);
    if (made_of.kind != Kind::tuple || pickle_.items(made_of).empty()) return {};
    const PickleValue& code = pickle_.items(made_of)[0];
    if (code.kind != Kind::string || items[1].kind != Kind::bytes) return {};
    return numpy_number(code.text(), items[1].text());
  }

  const Pickle& pickle_;
  size_t work_;  // what may still be made
};

size_t work_for(const Pickle& pickle) { return kWorkPerByte * std::min(pickle.size, kMostBytes); }

}  // namespace

Json json_of(const Pickle& pickle, const PickleValue& value) {
  return Converter(pickle, kBaseWork + work_for(pickle)).convert(value, 0);
}

Json members_as_json(const Pickle& pickle, const PickleValue& value,
                     std::span<const std::string_view> without) {
  const Items* held = pickle.members(value);
  std::map<std::string, Json> members;
  size_t work = kMembersWork + work_for(pickle);
  for (size_t i = 0; held != nullptr && i + 1 < held->size() && work > 0; i += 2) {
    const PickleValue& key = (*held)[i];
    const PickleValue& member = (*held)[i + 1];
    if (key.kind != Kind::string || !is_utf8(key.text()) || members.size() == kMostMembers) continue;
    if (member.kind == Kind::tensor) continue;
    if (std::find(without.begin(), without.end(), key.text()) != without.end()) continue;
    const size_t share = std::min(work, kBaseWork + pickle.size);
    Converter converter(pickle, share);
    members.insert_or_assign(std::string(key.text()), converter.convert(member, 0));
    work -= share - converter.work();
  }
  return Json::Object(members.begin(), members.end());
}

}  // namespace bdh
