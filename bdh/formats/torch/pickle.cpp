// The pickles in PyTorch files: a stack machine over plain values. Calls are not made: each of the few that
// make up a state_dict is replaced by the value it stands for, every other by a record of it.
#include "bdh/formats/torch/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <unordered_map>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxPickleBytes = size_t{1} << 30;
constexpr size_t kMaxStack = size_t{1} << 22;
constexpr size_t kMaxMarks = 10'000;
constexpr size_t kMaxObjects = size_t{1} << 22;   // containers, and values remembered
constexpr size_t kMaxElements = size_t{1} << 24;  // of all containers
constexpr uint8_t kNewestProtocol = 5;

constexpr size_t kMaxNames = size_t{1} << 20;  // bytes of names, and as many as the pickle has

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kSize = "torch.Size";
constexpr std::string_view kDevice = "torch.device";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kParameterWithState = "torch._utils._rebuild_parameter_with_state";
constexpr std::string_view kFromType = "torch._tensor._rebuild_from_type_v2";
constexpr size_t kFromTypeArguments = 4;
constexpr std::string_view kEncode = "_codecs.encode";  // how protocol 2 writes bytes
constexpr std::string_view kLatin1 = "latin1";

struct Rebuild {
  std::string_view name;
  size_t arguments;
};
constexpr std::array kTensors = {Rebuild{"torch._utils._rebuild_tensor", 4},
                                 Rebuild{"torch._utils._rebuild_tensor_v2", 6},
                                 Rebuild{"torch._utils._rebuild_tensor_v3", 6}};

PickleValue integer_value(int64_t integer, Kind kind = Kind::integer) {
  PickleValue value;
  value.kind = kind;
  value.integer = integer;
  return value;
}

PickleValue real_value(double real) {
  PickleValue value;
  value.kind = Kind::real;
  value.real = real;
  return value;
}

PickleValue text_value(Kind kind, std::string_view text) {
  PickleValue value;
  value.kind = kind;
  value.extent = static_cast<uint32_t>(text.size());
  value.start = text.data();
  return value;
}

PickleValue items_value(Kind kind, size_t position) {
  PickleValue value;
  value.kind = kind;
  value.extent = static_cast<uint32_t>(position);
  return value;
}

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), source_(source) {}

  Pickle run(size_t* used) {
    is_cut_ = bytes_.size() > kMaxPickleBytes;
    bytes_ = bytes_.substr(0, kMaxPickleBytes);
    result_.size = bytes_.size();
    result_.containers.emplace_back();  // the empty tuple
    while (!stopped_) step(take_number<uint8_t>());
    if (!marks_.empty() || !stack_.empty()) bad("ends with values left over");
    if (at_ != bytes_.size() && used == nullptr) bad("has bytes after its end");
    if (used != nullptr) *used = result_.size = at_;
    return std::move(result_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, ": byte ", at_, " of the pickle: ", reason...,
         "; the file is damaged, get it again from its source");
  }

  template <class... Parts>
  [[noreturn]] void too_much(const Parts&... reason) const {
    fail(ErrorKind::unsupported, source_, ": byte ", at_, " of the pickle: ", reason...,
         "; nothing was executed; save the model's state_dict alone with torch.save");
  }

  void step(uint8_t opcode) {
    if (scalar(opcode) || text(opcode) || container(opcode) || memory(opcode) || object(opcode)) return;
    fail(ErrorKind::unsupported, source_, ": byte ", at_ - 1, " of the pickle is the opcode 0x",
         "0123456789abcdef"[opcode >> 4], "0123456789abcdef"[opcode & 15],
         ", which torch.save does not write; nothing was executed; save the model's state_dict alone with "
         "torch.save");
  }

  // --- reading the bytes

  [[noreturn]] void end_too_early(const char* what) const {
    if (is_cut_) too_much("goes on beyond the ", kMaxPickleBytes, " bytes allowed");
    bad("ends in the middle of a ", what);
  }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) end_too_early("value");
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  // Little-endian.
  template <class Number>
  Number take_number() {
    const std::string_view taken = take(sizeof(Number));
    uint64_t number = 0;
    for (size_t i = taken.size(); i-- > 0;) number = number << 8 | static_cast<uint8_t>(taken[i]);
    return static_cast<Number>(number);
  }

  std::string_view take_line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == bytes_.npos) end_too_early("line");
    const std::string_view line = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  double take_real() {
    const std::string_view taken = take(sizeof(double));
    uint64_t bits = 0;
    for (const char byte : taken) bits = bits << 8 | static_cast<uint8_t>(byte);
    return std::bit_cast<double>(bits);
  }

  // A two's complement number of any length, little-endian.
  PickleValue take_long(uint64_t length) {
    const std::string_view digits = take(length);
    const bool negative = !digits.empty() && static_cast<int8_t>(digits.back()) < 0;
    if (length > sizeof(int64_t)) return real_value(long_as_real(digits, negative));
    uint64_t number = negative ? ~uint64_t{0} : 0;
    for (size_t i = digits.size(); i-- > 0;) number = number << 8 | static_cast<uint8_t>(digits[i]);
    return integer_value(static_cast<int64_t>(number));
  }

  static double long_as_real(std::string_view digits, bool negative) {
    double real = negative ? -1 : 0;
    for (size_t i = digits.size(); i-- > 0;) real = real * 256 + static_cast<uint8_t>(digits[i]);
    return real;
  }

  // Decimal, as protocol 1 writes integers; "00" and "01" are its booleans.
  PickleValue take_decimal() {
    std::string_view line = take_line();
    if (line == "00" || line == "01") return integer_value(line == "01", Kind::boolean);
    if (line.ends_with('L')) line.remove_suffix(1);
    int64_t integer = 0;
    const char* end = line.data() + line.size();
    const auto result = std::from_chars(line.data(), end, integer);
    if (line.empty() || result.ptr != end) bad("has a number ", printable(line), " that is none");
    if (result.ec == std::errc()) return integer_value(integer);
    const bool negative = line.starts_with('-');
    double real = 0;
    for (const char digit : line.substr(negative ? 1 : 0)) real = real * 10 + (digit - '0');
    return real_value(negative ? -real : real);
  }

  // --- the stack

  void push(PickleValue value) {
    if (stack_.size() >= kMaxStack) too_much("puts more than ", kMaxStack, " values on its stack");
    stack_.push_back(value);
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  void need(size_t count) const {
    if (stack_.size() - floor() < count) bad("takes more values from its stack than are there");
  }

  PickleValue pop() {
    need(1);
    const PickleValue value = stack_.back();
    stack_.pop_back();
    return value;
  }

  const PickleValue& top() const {
    need(1);
    return stack_.back();
  }

  void mark() {
    if (marks_.size() >= kMaxMarks) too_much("is nested more than ", kMaxMarks, " levels deep");
    marks_.push_back(stack_.size());
  }

  std::vector<PickleValue> pop_above(size_t size) {
    const auto first = stack_.begin() + static_cast<ptrdiff_t>(size);
    std::vector<PickleValue> values(first, stack_.end());
    stack_.erase(first, stack_.end());
    return values;
  }

  // The values above the last mark; both are gone afterwards.
  std::vector<PickleValue> pop_marked() {
    if (marks_.empty()) bad("goes back to a mark that is not there");
    const size_t size = marks_.back();
    marks_.pop_back();
    return pop_above(size);
  }

  std::vector<PickleValue> pop_last(size_t count) {
    need(count);
    return pop_above(stack_.size() - count);
  }

  // --- what values are made of

  void count_object() const {
    if (result_.containers.size() + memory_.size() >= kMaxObjects)
      too_much("makes more than ", kMaxObjects, " objects");
  }

  void count_elements(size_t added) {
    elements_ += added;
    if (elements_ > kMaxElements) too_much("fills its containers with more than ", kMaxElements, " values");
  }

  PickleValue new_container(Kind kind, std::vector<PickleValue> items) {
    if (kind == Kind::tuple && items.empty()) return items_value(kind, 0);
    count_object();
    count_elements(items.size());
    result_.containers.push_back(std::move(items));
    return items_value(kind, result_.containers.size() - 1);
  }

  // The items that are added to: those of the value itself, or of the list or dict that an object has.
  std::vector<PickleValue>& items_of_top(Kind kind, const char* what) {
    if (top().kind == kind) return result_.containers[top().extent];
    if (top().kind != Kind::object) bad("adds to a value that is no ", what);
    const size_t place = static_cast<size_t>(kind == Kind::list ? PickleObject::list : PickleObject::dict);
    if (result_.items(top())[place].kind == Kind::none) {
      const PickleValue items = new_container(kind, {});
      result_.containers[top().extent][place] = items;
    }
    return result_.containers[result_.items(top())[place].extent];
  }

  PickleValue new_object(PickleValue callee, PickleValue arguments) {
    std::vector<PickleValue> parts(static_cast<size_t>(PickleObject::parts));
    parts[static_cast<size_t>(PickleObject::callee)] = callee;
    parts[static_cast<size_t>(PickleObject::arguments)] = arguments;
    return new_container(Kind::object, std::move(parts));
  }

  // A text that is not in the bytes, kept once.
  std::string_view name(std::string text) {
    const auto [kept, is_new] = result_.names.insert(std::move(text));
    if (is_new) names_ += kept->size();
    if (names_ > kMaxNames + bytes_.size()) too_much("makes names out of proportion to its size");
    return *kept;
  }

  void add(Kind kind, const char* what, const std::vector<PickleValue>& values) {
    std::vector<PickleValue>& items = items_of_top(kind, what);
    if (kind == Kind::dict && values.size() % 2 != 0) bad("sets a key without a value");
    count_elements(values.size());
    items.insert(items.end(), values.begin(), values.end());
  }

  PickleValue new_dict(std::vector<PickleValue> items) {
    if (items.size() % 2 != 0) bad("sets a key without a value");
    return new_container(Kind::dict, std::move(items));
  }

  // --- opcodes, named as pickletools names them; each group says whether the opcode was one of its own

  bool scalar(uint8_t opcode) {
    switch (opcode) {
      case 'N':  // NONE
        return push({}), true;
      case 0x88:  // NEWTRUE
        return push(integer_value(1, Kind::boolean)), true;
      case 0x89:  // NEWFALSE
        return push(integer_value(0, Kind::boolean)), true;
      case 'J':  // BININT
        return push(integer_value(take_number<int32_t>())), true;
      case 'K':  // BININT1
        return push(integer_value(take_number<uint8_t>())), true;
      case 'M':  // BININT2
        return push(integer_value(take_number<uint16_t>())), true;
      case 'I':  // INT
      case 'L':  // LONG
        return push(take_decimal()), true;
      case 0x8a:  // LONG1
        return push(take_long(take_number<uint8_t>())), true;
      case 0x8b:  // LONG4
        return push(take_long(take_number<uint32_t>())), true;
      case 'G':  // BINFLOAT
        return push(real_value(take_real())), true;
      default:
        return false;
    }
  }

  bool text(uint8_t opcode) {
    switch (opcode) {
      case 'X':  // BINUNICODE
        return push(text_value(Kind::string, take(take_number<uint32_t>()))), true;
      case 0x8c:  // SHORT_BINUNICODE
        return push(text_value(Kind::string, take(take_number<uint8_t>()))), true;
      case 0x8d:  // BINUNICODE8
        return push(text_value(Kind::string, take(take_number<uint64_t>()))), true;
      case 'T':  // BINSTRING
        return push(text_value(Kind::string, take(take_number<uint32_t>()))), true;
      case 'U':  // SHORT_BINSTRING
        return push(text_value(Kind::string, take(take_number<uint8_t>()))), true;
      case 0x96:  // BYTEARRAY8
        return push(text_value(Kind::bytes, take(take_number<uint64_t>()))), true;
      case 'B':  // BINBYTES
        return push(text_value(Kind::bytes, take(take_number<uint32_t>()))), true;
      case 'C':  // SHORT_BINBYTES
        return push(text_value(Kind::bytes, take(take_number<uint8_t>()))), true;
      case 0x8e:  // BINBYTES8
        return push(text_value(Kind::bytes, take(take_number<uint64_t>()))), true;
      default:
        return false;
    }
  }

  bool container(uint8_t opcode) {
    switch (opcode) {
      case '(':  // MARK
        return mark(), true;
      case ')':  // EMPTY_TUPLE
        return push(new_container(Kind::tuple, {})), true;
      case ']':   // EMPTY_LIST
      case 0x8f:  // EMPTY_SET
        return push(new_container(Kind::list, {})), true;
      case '}':  // EMPTY_DICT
        return push(new_container(Kind::dict, {})), true;
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        return push(new_container(Kind::tuple, pop_last(opcode - 0x84u))), true;
      case 't':  // TUPLE
        return push(new_container(Kind::tuple, pop_marked())), true;
      case 'a':  // APPEND
        return add(Kind::list, "list", pop_last(1)), true;
      case 'e':   // APPENDS
      case 0x90:  // ADDITEMS
        return add(Kind::list, "list", pop_marked()), true;
      case 0x91:  // FROZENSET
      case 'l':   // LIST
        return push(new_container(Kind::list, pop_marked())), true;
      case 'd':  // DICT
        return push(new_dict(pop_marked())), true;
      case 's':  // SETITEM
        return add(Kind::dict, "dict", pop_last(2)), true;
      case 'u':  // SETITEMS
        return add(Kind::dict, "dict", pop_marked()), true;
      default:
        return false;
    }
  }

  bool memory(uint8_t opcode) {
    switch (opcode) {
      case 'q':  // BINPUT
        return remember(take_number<uint8_t>()), true;
      case 'r':  // LONG_BINPUT
        return remember(take_number<uint32_t>()), true;
      case 0x94:  // MEMOIZE
        return remember(static_cast<uint32_t>(memory_.size())), true;
      case 'h':  // BINGET
        return push(recall(take_number<uint8_t>())), true;
      case 'j':  // LONG_BINGET
        return push(recall(take_number<uint32_t>())), true;
      case '2':  // DUP
        return push(top()), true;
      case '0':  // POP
        return pop(), true;
      case '1':  // POP_MARK
        return pop_marked(), true;
      default:
        return false;
    }
  }

  bool object(uint8_t opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        return check_protocol(take_number<uint8_t>()), true;
      case 0x95:  // FRAME: how far a reader may read ahead
        return take_number<uint64_t>(), true;
      case 'c':  // GLOBAL
        return push(global_of_lines()), true;
      case 0x93:  // STACK_GLOBAL
        return push_global_of_stack(), true;
      case 'Q':  // BINPERSID
        return push(storage(pop())), true;
      case 'b':  // BUILD
        return build(), true;
      case '.':  // STOP
        return stop(), true;
      default:
        return call(opcode);
    }
  }

  bool call(uint8_t opcode) {
    switch (opcode) {
      case 'R':  // REDUCE
        return reduce(), true;
      case 'i':  // INST
        return push_instance(global_of_lines(), pop_marked()), true;
      case 'o':  // OBJ
        return push_marked_object(), true;
      case 0x81:  // NEWOBJ
        return push_new_object(), true;
      case 0x92:  // NEWOBJ_EX
        return pop(), push_new_object(), true;
      case 0x82:  // EXT1
        return push(extension(take_number<uint8_t>())), true;
      case 0x83:  // EXT2
        return push(extension(take_number<uint16_t>())), true;
      case 0x84:  // EXT4
        return push(extension(take_number<uint32_t>())), true;
      default:
        return false;
    }
  }

  void remember(uint32_t name) {
    count_object();
    memory_.insert_or_assign(name, top());
  }

  const PickleValue& recall(uint32_t name) const {
    const auto found = memory_.find(name);
    if (found == memory_.end()) bad("asks for value ", name, ", which was never remembered");
    return found->second;
  }

  void check_protocol(uint8_t protocol) const {
    if (protocol <= kNewestProtocol) return;
    fail(ErrorKind::unsupported, source_, ": uses pickle protocol ", int{protocol},
         "; bdh reads protocols up to ", int{kNewestProtocol}, ", save the file again with torch.save");
  }

  PickleValue global(std::string_view module, std::string_view attribute) {
    return text_value(Kind::global, name(concat(module, ".", attribute)));
  }

  PickleValue global_of_lines() {
    const std::string_view module = take_line();
    return global(module, take_line());
  }

  void push_global_of_stack() {
    const PickleValue name = pop();
    const PickleValue module = pop();
    if (name.kind != Kind::string || module.kind != Kind::string)
      bad("names a global by something that is no string");
    push(global(module.text(), name.text()));
  }

  PickleValue extension(uint32_t code) { return text_value(Kind::global, name(concat("extension.", code))); }

  PickleValue storage(PickleValue name) {
    if (name.kind != Kind::tuple) return new_object({}, name);
    name.kind = Kind::storage;
    return name;
  }

  void reduce() {
    const PickleValue arguments = pop();
    const PickleValue callee = pop();
    if (arguments.kind != Kind::tuple) bad("calls something with what is no tuple");
    push(callee.kind == Kind::global ? called(callee, arguments) : new_object(callee, arguments));
  }

  void push_instance(PickleValue callee, std::vector<PickleValue> arguments) {
    push(new_object(callee, new_container(Kind::tuple, std::move(arguments))));
  }

  void push_marked_object() {
    std::vector<PickleValue> arguments = pop_marked();
    if (arguments.empty()) bad("makes an object of nothing");
    const PickleValue callee = arguments.front();
    arguments.erase(arguments.begin());
    push_instance(callee, std::move(arguments));
  }

  void push_new_object() {
    const PickleValue arguments = pop();
    const PickleValue callee = pop();
    push(callee.kind == Kind::global ? called(callee, arguments) : new_object(callee, arguments));
  }

  // What the call of a global stands for.
  PickleValue called(const PickleValue& callee, const PickleValue& arguments) {
    if (arguments.kind != Kind::tuple) return new_object(callee, arguments);
    const std::string_view name = callee.text();
    const std::vector<PickleValue>& items = result_.items(arguments);
    if (name == kOrderedDict && items.empty()) return new_container(Kind::dict, {});
    if (rebuilds_tensor(callee, arguments)) return tensor(arguments);
    if (name == kFromType && items.size() == kFromTypeArguments && rebuilds_tensor(items[0], items[2]))
      return tensor(items[2]);
    if (name == kEncode && items.size() == 2 && items[0].kind == Kind::string &&
        items[1].kind == Kind::string && items[1].text() == kLatin1)
      return text_value(Kind::bytes, this->name(latin1_of(items[0].text())));
    return stands_for_first(name, items) ? items[0] : new_object(callee, arguments);
  }

  // The bytes whose characters stand in UTF-8.
  static std::string latin1_of(std::string_view text) {
    std::string bytes;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto first = static_cast<uint8_t>(text[i]);
      const bool two = (first & 0xfc) == 0xc0 && i + 1 < text.size();
      bytes += two ? static_cast<char>(first << 6 | (text[++i] & 0x3f)) : text[i];
    }
    return bytes;
  }

  static bool stands_for_first(std::string_view name, const std::vector<PickleValue>& items) {
    const Kind first = items.empty() ? Kind::none : items[0].kind;
    if (name == kSize) return items.size() == 1 && (first == Kind::tuple || first == Kind::list);
    if (name == kDevice) return first == Kind::string;
    return (name == kParameter || name == kParameterWithState) && first == Kind::tensor;
  }

  bool rebuilds_tensor(const PickleValue& callee, const PickleValue& arguments) const {
    if (callee.kind != Kind::global || arguments.kind != Kind::tuple) return false;
    const auto found = std::find_if(kTensors.begin(), kTensors.end(),
                                    [&](const Rebuild& rebuild) { return rebuild.name == callee.text(); });
    const std::vector<PickleValue>& items = result_.items(arguments);
    return found != kTensors.end() && items.size() >= found->arguments && items[0].kind == Kind::storage;
  }

  static PickleValue tensor(PickleValue arguments) {
    arguments.kind = Kind::tensor;
    return arguments;
  }

  // Attributes of a state_dict, as _metadata, belong to no tensor.
  void build() {
    const PickleValue state = pop();
    if (top().kind == Kind::object)
      result_.containers[top().extent][static_cast<size_t>(PickleObject::state)] = state;
  }

  void stop() {
    result_.root = pop();
    stopped_ = true;
  }

  std::string_view bytes_;
  const std::string& source_;
  size_t at_ = 0;
  bool stopped_ = false;
  bool is_cut_ = false;  // more bytes follow than are read
  std::vector<PickleValue> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::unordered_map<uint32_t, PickleValue> memory_;
  size_t elements_ = 0;
  size_t names_ = 0;  // bytes of result_.names
  Pickle result_;
};

// Where an object keeps its members: as entries of a dict, as a dict that it was made of, or as attributes.
constexpr std::string_view kAttributes = "__dict__";
constexpr int kMostObjects = 4;  // one in another

const PickleValue* own_dict(const Pickle& pickle, const PickleValue& object) {
  const PickleValue& dict = pickle.part(object, PickleObject::dict);
  if (dict.kind == Kind::dict) return &dict;
  const PickleValue& arguments = pickle.part(object, PickleObject::arguments);
  if (arguments.kind != Kind::tuple) return nullptr;
  const std::vector<PickleValue>& items = pickle.items(arguments);
  const auto found = std::find_if(items.begin(), items.end(),
                                  [](const PickleValue& item) { return item.kind == Kind::dict; });
  return found == items.end() ? nullptr : &*found;
}

// Of a class with slots the state is a pair: attributes, or None, and slots.
const PickleValue* attributes(const Pickle& pickle, const PickleValue& object) {
  const PickleValue* state = &pickle.part(object, PickleObject::state);
  if (state->kind == Kind::tuple) {
    const std::vector<PickleValue>& parts = pickle.items(*state);
    const auto found = std::find_if(parts.rbegin(), parts.rend(),
                                    [](const PickleValue& part) { return part.kind == Kind::dict; });
    return found == parts.rend() ? nullptr : &*found;
  }
  return state->kind == Kind::dict ? state : nullptr;
}

const PickleValue* last_of(const std::vector<PickleValue>& members, std::string_view key) {
  for (size_t i = members.size() / 2; i-- > 0;) {
    if (members[2 * i].kind == Kind::string && members[2 * i].text() == key) return &members[2 * i + 1];
  }
  return nullptr;
}

}  // namespace

const std::vector<PickleValue>* Pickle::members(const PickleValue& value) const {
  if (value.kind == Kind::dict) return &items(value);
  if (value.kind != Kind::object) return nullptr;
  const PickleValue* dict = own_dict(*this, value);
  if (dict == nullptr) dict = attributes(*this, value);
  for (int depth = 0; dict != nullptr && depth < kMostObjects; ++depth) {
    const PickleValue* inner = last_of(items(*dict), kAttributes);
    if (inner == nullptr || inner->kind != Kind::dict) return &items(*dict);
    dict = inner;
  }
  return dict == nullptr ? nullptr : &items(*dict);
}

const PickleValue* Pickle::find(const PickleValue& value, std::string_view key) const {
  const std::vector<PickleValue>* held = members(value);
  return held == nullptr ? nullptr : last_of(*held, key);
}

std::string Pickle::describe(const PickleValue& value) const {
  if (value.kind != Kind::object) return value.kind == Kind::tensor ? "a tensor" : "a plain value";
  const PickleValue& callee = part(value, PickleObject::callee);
  if (callee.kind != Kind::global) return "an object";
  return concat("an object of ", printable(callee.text()));
}

Pickle read_pickle(std::span<const std::byte> bytes, const std::string& source, size_t* used) {
  return Machine(bytes, source).run(used);
}

}  // namespace bdh
