// Pickles that try to do more than hold a state_dict, that are broken, or that would exhaust memory or time:
// each with the reason it must be refused for.
#include "bdh/formats/torch/pickle.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/pickle_bytes.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;
using namespace bdh::test::pickled;
using Kind = PickleValue::Kind;

namespace {

struct Refused {
  std::string pickle;
  std::string fragment;
};

Pickle read(const std::string& bytes) { return read_pickle(std::as_bytes(std::span(bytes)), "model.pt"); }

Thrown read_thrown(const std::string& bytes) {
  return thrown_by([&] { read(bytes); });
}

void check_refused(const std::vector<Refused>& pickles, ErrorKind kind) {
  for (const auto& refused : pickles) {
    CAPTURE(refused.fragment);
    const Thrown thrown = read_thrown(refused.pickle);
    CAPTURE(thrown.message);
    CHECK(thrown.kind == kind);
    CHECK(thrown.says("model.pt: "));
    CHECK(thrown.says(refused.fragment));
  }
}

// What a pickle made of these opcodes alone gives.
PickleValue value_of(const std::string& opcodes) { return read(pickle(opcodes)).root; }

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// Long names, each remembered once and put together in every way.
std::string endless_names() {
  std::string opcodes;
  for (int i = 0; i < 50; ++i)
    opcodes += text(std::string(1000, 'x') + std::to_string(i)) + "q" + static_cast<char>(i) + "0";
  for (char a = 0; a < 50; ++a)
    for (char b = 0; b < 50; ++b) opcodes += "h"s + a + "h" + b + "\x93" + "0";
  return opcodes + "N";
}

}  // namespace

TEST_CASE("pickle: what Python would call is recorded, and nothing is executed") {
  const std::string command = text("touch /tmp/bdh-was-attacked");
  const std::string state = dict({text("n_layer"), number(6)});
  const std::vector<std::string> objects{
      call(global("os", "system"), {command}),
      "\x8c\x02os"s + text("system") + "\x93" + tuple({command}) + "R",  // STACK_GLOBAL
      "("s + command + "ios\nsystem\n",                                  // INST
      "("s + global("os", "system") + command + "o",                     // OBJ
      global("os", "system") + tuple({command}) + "\x81",                // NEWOBJ
      global("os", "system") + tuple({command}) + "}\x92",               // NEWOBJ_EX
  };
  for (const std::string& object : objects) {
    const std::string bytes = pickle(object + state + "b");
    const Pickle result = read(bytes);
    REQUIRE(result.root.kind == Kind::object);
    CHECK(result.describe(result.root) == "an object of 'os.system'");
    CHECK(result.find(result.root, "n_layer")->integer == 6);
    const PickleValue& arguments = result.part(result.root, PickleObject::arguments);
    CHECK(result.items(arguments)[0].text() == "touch /tmp/bdh-was-attacked");
  }
}

TEST_CASE("pickle: calls that are not understood are objects, whatever they call and take") {
  const std::string floats = storage("FloatStorage", "0", 4);
  for (const std::string& value :
       {call(global("torch", "FloatStorage"), {number(4)}),
        call(global("collections", "OrderedDict"), {tuple({})}), call(global("torch", "Size"), {number(1)}),
        call(call(global("torch", "Size"), {tuple({})}), {}), call(text("os.system"), {}),
        call(global("torch._utils", "_rebuild_parameter"), {floats}),
        call(global("torch._utils", "_rebuild_tensor_v2"), {floats}),
        call(global("torch._tensor", "_rebuild_from_type_v2"),
             {global("torch._tensor", "_rebuild_from_type_v2"), global("torch", "Tensor"), tuple({}), "N"}),
        number(1) + "Q", call("\x82\x01", {})}) {
    CHECK(value_of(value).kind == Kind::object);
  }
}

TEST_CASE("pickle: objects have members, from where Python keeps them") {
  const std::string one = dict({text("n"), number(1)});
  const std::string made = global("m", "C") + ")\x81";
  const auto n_of = [](const std::string& opcodes) {
    const std::string bytes = pickle(opcodes);
    const Pickle result = read(bytes);
    const PickleValue* found = result.find(result.root, "n");
    return found ? found->integer : -1;
  };
  CHECK(n_of(made + one + "b") == 1);                            // a dataclass, a Namespace
  CHECK(n_of(made + tuple({"N", one}) + "b") == 1);              // slots
  CHECK(n_of(made + dict({text("__dict__"), one}) + "b") == 1);  // pydantic
  CHECK(n_of(call(global("collections", "Counter"), {one})) == 1);
  CHECK(n_of(call(global("collections", "defaultdict"), {"N"}) + "(" + text("n") + number(1) + "u") == 1);
  CHECK(n_of(dict({text("n"), number(3), text("n"), number(1)})) == 1);  // the last counts
  CHECK(n_of(number(1)) == -1);
  CHECK(n_of(made) == -1);
}

TEST_CASE("pickle: sets, byte arrays and the texts of Python 2") {
  CHECK(value_of("\x8f("s + number(1) + number(2) + "\x90").kind == Kind::list);
  CHECK(value_of("("s + number(1) + "\x91").kind == Kind::list);
  CHECK(value_of("("s + text("a") + number(1) + "d").kind == Kind::dict);
  CHECK(value_of("\x96"s + little_endian(2, 8) + "ab").kind == Kind::bytes);
  CHECK(read("\x80\x02U\x02"
             "ab."s)
            .root.kind == Kind::string);
  const std::string latin = pickle(call(global("_codecs", "encode"), {text("a\xc3\xbf"), text("latin1")}));
  const Pickle bytes = read(latin);
  CHECK(bytes.root.kind == Kind::bytes);
  CHECK(bytes.root.text() == "a\xff");
}

TEST_CASE("pickle: opcodes that torch.save does not write are refused by number") {
  check_refused(
      {
          {pickle("Pname\n"), "the opcode 0x50"},  // PERSID
          {pickle("\x97"), "the opcode 0x97"},     // NEXT_BUFFER
          {pickle("\xff"), "byte 2 of the pickle is the opcode 0xff"},
          {std::string("\0", 1), "the opcode 0x00"},
          {"\x80\x06N.", "pickle protocol 6"},
      },
      ErrorKind::unsupported);
}

TEST_CASE("pickle: broken ones") {
  check_refused(
      {
          {"", "byte 0 of the pickle: ends in the middle"},
          {"\x80", "ends in the middle of a value"},
          {"\x80\x02", "ends in the middle"},
          {"\x80\x02N", "ends in the middle"},
          {"\x80\x02N.N", "has bytes after its end"},
          {pickle("NN"), "ends with values left over"},
          {pickle("(N"), "ends with values left over"},
          {pickle(""), "takes more values from its stack than are there"},
          {pickle("t"), "goes back to a mark that is not there"},
          {pickle("N\x86"), "takes more values from its stack"},
          {pickle("N(\x85t"), "takes more values from its stack"},
          {pickle("Na"), "takes more values from its stack"},
          {pickle("NNa"), "adds to a value that is no list"},
          {pickle(")Na"), "adds to a value that is no list"},
          {pickle("](Nu"), "adds to a value that is no dict"},
          {pickle("}(Nu"), "sets a key without a value"},
          {pickle("}Ns"), "takes more values from its stack"},
          {pickle("("s + number(1) + "d"), "sets a key without a value"},
          {pickle("(o"), "makes an object of nothing"},
          {pickle(global("torch", "Size") + "]R"), "calls something with what is no tuple"},
          {pickle(number(1) + number(2) + "\x93"), "names a global by something that is no string"},
          {pickle("h\x05"), "asks for value 5, which was never remembered"},
          {pickle("q\x05"), "takes more values from its stack"},
          {pickle("X\xff\xff\xff\xffshort"), "ends in the middle of a value"},
          {pickle("\x8d\xff\xff\xff\xff\xff\xff\xff\xffshort"), "ends in the middle of a value"},
          {pickle("\x8b\xff\xff\xff\x7f"), "ends in the middle of a value"},
          {pickle("cos"), "ends in the middle of a line"},
          {pickle("I1x\n"), "has a number '1x' that is none"},
          {pickle("L\n"), "has a number '' that is none"},
      },
      ErrorKind::bad_file);
}

TEST_CASE("pickle: what grows without end is refused") {
  check_refused(
      {
          {pickle(repeated("(", 10'001)), "nested more than 10000 levels deep"},
          {pickle("N"s + repeated("\x94", (1 << 22) + 1)), "makes more than 4194304 objects"},
          {pickle(endless_names()), "makes names out of proportion"},
      },
      ErrorKind::unsupported);
  if (kSlow) return;  // by sanitizers, under which these take most of a minute
  check_refused(
      {
          {pickle(repeated("N", (1 << 22) + 1)), "more than 4194304 values on its stack"},
          {pickle("("s + repeated("]0", (1 << 22) + 1)), "makes more than 4194304 objects"},
          {pickle("]"s + repeated("("s + std::string(1'000'000, 'N') + "e", 17)),
           "more than 16777216 values"},
      },
      ErrorKind::unsupported);
}

TEST_CASE("pickle: a place in memory may have any number, and takes no more room for it") {
  const PickleValue value = value_of(number(7) + std::string("r\xff\xff\xff\xff", 5) + "0j\xff\xff\xff\xff");
  CHECK(value.integer == 7);
}

TEST_CASE("pickle: lists that hold themselves and one another end") {
  const Pickle cyclic =
      read(pickle("]q\x01h\x01"
                  "a"));
  CHECK(cyclic.items(cyclic.root)[0].extent == cyclic.root.extent);
  // Forty lists, each holding the one before ten times.
  std::string bomb = "]q\x01";
  for (char i = 1; i < 40; ++i)
    bomb += std::string("0](") + repeated(std::string("h") + i, 10) + "eq" + char(i + 1);
  CHECK(read(pickle(bomb)).containers.size() == 41);
}

TEST_CASE("pickle: a hundred thousand tuples in one another") {
  CHECK(read(pickle("N"s + repeated("\x85", 100'000))).root.kind == Kind::tuple);
}

TEST_CASE("pickle: numbers of every size") {
  CHECK(value_of("K\xff").integer == 255);
  CHECK(value_of("M\xff\xff").integer == 65535);
  CHECK(value_of("J\xff\xff\xff\xff").integer == -1);
  CHECK(value_of(std::string("\x8a\0", 2)).integer == 0);
  CHECK(value_of("\x8a\x01\x80").integer == -128);
  CHECK(value_of(number(INT64_MIN)).integer == INT64_MIN);
  CHECK(value_of(std::string("\x8a\x09\0\0\0\0\0\0\0\0\1", 11)).real == 0x1p64);
  CHECK(value_of("\x8a\x09"s + repeated("\xff", 9)).real == -1);
  CHECK(value_of("I-12\n").integer == -12);
  CHECK(value_of("L12L\n").integer == 12);
  CHECK(value_of("L-100000000000000000000L\n").real == -1e20);
  CHECK(value_of("I01\n").kind == Kind::boolean);
  CHECK(value_of(std::string("G\x3f\xf8\0\0\0\0\0\0", 9)).real == 1.5);
}

TEST_CASE("pickle: calls become the values they stand for") {
  const std::string weights = tensor(storage("FloatStorage", "0", 4), 0, {2, 2}, {2, 1});
  CHECK(value_of(weights).kind == Kind::tensor);
  CHECK(
      value_of(call(global("torch._utils", "_rebuild_parameter"), {weights, "\x88", ordered_dict()})).kind ==
      Kind::tensor);
  CHECK(value_of(ordered_dict() + "}" + text("_metadata") + "Nsb").kind == Kind::dict);
  CHECK(value_of(call(global("torch", "Size"), {numbers({1, 2})})).kind == Kind::tuple);
  const std::string device = pickle(call(global("torch", "device"), {text("cuda"), number(1)}));
  CHECK(read(device).root.text() == "cuda");
  const Pickle type = read(pickle(global("torch", "bfloat16")));
  CHECK(type.root.text() == "torch.bfloat16");
}
