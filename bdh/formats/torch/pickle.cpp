// The pickles in PyTorch files: a stack machine over plain values. Calls are not made: each of the few that
// make up a state_dict is replaced by the value it stands for.
#include "bdh/formats/torch/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <optional>
#include <unordered_map>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/torch_types.h"

namespace bdh {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxPickleBytes = size_t{128} << 20;
constexpr size_t kMaxStack = size_t{1} << 20;
constexpr size_t kMaxMarks = 10'000;
constexpr size_t kMaxObjects = size_t{1} << 22;   // containers, and values remembered
constexpr size_t kMaxElements = size_t{1} << 24;  // of all containers
constexpr uint8_t kNewestProtocol = 5;

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kSize = "torch.Size";
constexpr std::string_view kDevice = "torch.device";
constexpr std::string_view kTensorV2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kTensorV3 = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kParameterWithState = "torch._utils._rebuild_parameter_with_state";
constexpr std::string_view kFromType = "torch._tensor._rebuild_from_type_v2";
constexpr std::array kGlobals = {kOrderedDict,
                                 kSize,
                                 kDevice,
                                 kTensorV2,
                                 kTensorV3,
                                 kParameter,
                                 kParameterWithState,
                                 kFromType,
                                 std::string_view("torch.Tensor"),
                                 std::string_view("torch.nn.parameter.Parameter")};

constexpr size_t kTensorArguments = 6;
constexpr size_t kFromTypeArguments = 4;

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

// The constant of that name, or nothing.
std::optional<std::string_view> known_global(std::string_view name) {
  const auto found = std::find(kGlobals.begin(), kGlobals.end(), name);
  return found != kGlobals.end() ? std::optional(*found) : torch_type(name);
}

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), source_(source) {}

  Pickle run() {
    if (bytes_.size() > kMaxPickleBytes)
      bad("has ", bytes_.size(), " bytes, more than the ", kMaxPickleBytes, " allowed");
    result_.size = bytes_.size();
    result_.containers.emplace_back();  // the empty tuple
    while (!stopped_) step(take_number<uint8_t>());
    if (!marks_.empty() || !stack_.empty()) bad("ends with values left over");
    if (at_ != bytes_.size()) bad("has bytes after its end");
    return std::move(result_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const {
    fail(ErrorKind::bad_file, source_, ": byte ", at_, " of the pickle: ", reason...,
         "; the file is damaged, get it again from its source");
  }

  void step(uint8_t opcode) {
    if (scalar(opcode) || text(opcode) || container(opcode) || memory(opcode) || object(opcode)) return;
    fail(ErrorKind::unsupported, source_, ": byte ", at_ - 1, " of the pickle is the opcode 0x",
         "0123456789abcdef"[opcode >> 4], "0123456789abcdef"[opcode & 15],
         ", which no state_dict needs; nothing was executed; save the model's state_dict alone with "
         "torch.save");
  }

  // --- reading the bytes

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) bad("ends in the middle of a value");
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
    if (end == bytes_.npos) bad("ends in the middle of a line");
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
    if (stack_.size() >= kMaxStack) bad("puts more than ", kMaxStack, " values on its stack");
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
    if (marks_.size() >= kMaxMarks) bad("is nested more than ", kMaxMarks, " levels deep");
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
      bad("makes more than ", kMaxObjects, " objects");
  }

  void count_elements(size_t added) {
    elements_ += added;
    if (elements_ > kMaxElements) bad("fills its containers with more than ", kMaxElements, " values");
  }

  PickleValue new_container(Kind kind, std::vector<PickleValue> items) {
    if (kind == Kind::tuple && items.empty()) return items_value(kind, 0);
    count_object();
    count_elements(items.size());
    result_.containers.push_back(std::move(items));
    return items_value(kind, result_.containers.size() - 1);
  }

  std::vector<PickleValue>& items_of_top(Kind kind, const char* what) {
    if (top().kind != kind) bad("adds to a value that is no ", what);
    return result_.containers[top().extent];
  }

  void add(Kind kind, const char* what, const std::vector<PickleValue>& values) {
    std::vector<PickleValue>& items = items_of_top(kind, what);
    if (kind == Kind::dict && values.size() % 2 != 0) bad("sets a key without a value");
    count_elements(values.size());
    items.insert(items.end(), values.begin(), values.end());
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
      case ']':  // EMPTY_LIST
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
      case 'e':  // APPENDS
        return add(Kind::list, "list", pop_marked()), true;
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
      case 'i':  // INST
        return push_named(opcode), true;
      case 0x93:  // STACK_GLOBAL
        return push_global_of_stack(), true;
      case 'Q':  // BINPERSID
        return push(storage(pop())), true;
      case 'R':  // REDUCE
        return reduce(), true;
      case 'b':  // BUILD
        return build(), true;
      case '.':  // STOP
        return stop(), true;
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

  PickleValue global(std::string_view module, std::string_view name) const {
    const std::string full = concat(module, ".", name);
    const auto known = known_global(full);
    if (known) return text_value(Kind::global, *known);
    fail(ErrorKind::unsupported, source_, ": names the global ", printable(full),
         "; bdh reads only tensors, parameters, OrderedDict and plain values; nothing was executed; "
         "save the model's state_dict alone with torch.save");
  }

  void push_named(uint8_t opcode) {
    const std::string_view module = take_line();
    const std::string_view name = take_line();
    const PickleValue value = global(module, name);
    if (opcode == 'i') bad("makes an object of ", value.text());
    push(value);
  }

  void push_global_of_stack() {
    const PickleValue name = pop();
    const PickleValue module = pop();
    if (name.kind != Kind::string || module.kind != Kind::string)
      bad("names a global by something that is no string");
    push(global(module.text(), name.text()));
  }

  PickleValue storage(PickleValue name) const {
    if (name.kind != Kind::tuple) bad("names a storage by something that is no tuple");
    name.kind = Kind::storage;
    return name;
  }

  void reduce() {
    const PickleValue arguments = pop();
    const PickleValue callee = pop();
    if (callee.kind != Kind::global || arguments.kind != Kind::tuple)
      bad("calls something that is no global, or with something that is no tuple");
    push(called(callee.text(), arguments));
  }

  // What the call stands for.
  PickleValue called(std::string_view callee, const PickleValue& arguments) {
    const std::vector<PickleValue>& items = result_.items(arguments);
    if (callee == kOrderedDict && items.empty()) return new_container(Kind::dict, {});
    if (callee == kTensorV2 || callee == kTensorV3) return tensor(arguments);
    const Kind first = items.empty() ? Kind::none : items[0].kind;
    if (callee == kSize && items.size() == 1 && (first == Kind::tuple || first == Kind::list))
      return items[0];
    if (callee == kDevice && first == Kind::string) return items[0];
    if ((callee == kParameter || callee == kParameterWithState) && first == Kind::tensor) return items[0];
    if (callee == kFromType && items.size() == kFromTypeArguments && rebuilds_tensor(items[0]))
      return tensor(items[2]);
    bad("calls ", callee, " with arguments it does not take");
  }

  static bool rebuilds_tensor(const PickleValue& value) {
    return value.kind == Kind::global && (value.text() == kTensorV2 || value.text() == kTensorV3);
  }

  PickleValue tensor(PickleValue arguments) const {
    const bool complete = arguments.kind == Kind::tuple &&
                          result_.items(arguments).size() >= kTensorArguments &&
                          result_.items(arguments)[0].kind == Kind::storage;
    if (!complete) bad("makes a tensor without a storage or without all that belongs to it");
    arguments.kind = Kind::tensor;
    return arguments;
  }

  // Attributes of a state_dict, as _metadata, belong to no tensor.
  void build() {
    pop();
    if (top().kind != Kind::dict) bad("sets attributes of a value that is no dict");
  }

  void stop() {
    result_.root = pop();
    stopped_ = true;
  }

  std::string_view bytes_;
  const std::string& source_;
  size_t at_ = 0;
  bool stopped_ = false;
  std::vector<PickleValue> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::unordered_map<uint32_t, PickleValue> memory_;
  size_t elements_ = 0;
  Pickle result_;
};

}  // namespace

Pickle read_pickle(std::span<const std::byte> bytes, const std::string& source) {
  return Machine(bytes, source).run();
}

}  // namespace bdh
