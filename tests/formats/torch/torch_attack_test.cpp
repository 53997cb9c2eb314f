// PyTorch files that break a rule, each with the reason it must be refused for; cut and mutated files.
#include <doctest/doctest.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "bdh/formats/torch/torch_file.h"
#include "bdh/formats/torch/torch_reader.h"
#include "tests/formats/torch/torch_dump.h"
#include "tests/support/pickle_bytes.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;
using namespace bdh::test::pickled;
namespace fs = std::filesystem;

namespace {

const std::string kSixteen(16, 'x');  // bytes: four floats
const std::string kFloats = storage("FloatStorage", "0", 4);
const std::string kWeights = tensor(kFloats, 0, {2, 2}, {2, 1});

struct Attack {
  std::string file;
  std::string fragment;
};

// A state_dict whose tensor w lies in sixteen bytes of storage.
Attack with_tensor(const std::string& value, const char* fragment) {
  return {archive(pickle(dict({text("w"), value})), {kSixteen}), fragment};
}

Attack with_view(int64_t offset, const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                 const char* fragment) {
  return with_tensor(tensor(kFloats, offset, shape, strides), fragment);
}

std::vector<Attack> view_attacks() {
  const int64_t huge = int64_t{1} << 60;
  return {
      with_view(0, {huge}, {1},
                "tensor 'w': its shape (1152921504606846976) with strides (1) from element 0 reaches past"),
      with_view(0, {huge, huge}, {1, 1}, "more elements than 64 bits can count"),
      with_view(0, {huge * 4}, {1}, "more bytes than 64 bits can count"),
      with_view(0, {huge}, {0}, "repeats so few stored values so often"),
      with_view(0, {1 << 30, 1}, {0, 0}, "repeats so few stored values so often"),
      with_view(0, {5}, {1}, "from element 0 reaches past the 4 elements of its storage"),
      with_view(1, {4}, {1}, "from element 1 reaches past"),
      with_view(4, {1}, {1}, "from element 4 reaches past"),
      with_view(INT64_MAX, {1}, {1}, "reaches past"),
      with_view(0, {2}, {4}, "reaches past"),
      with_view(0, {2}, {INT64_MAX}, "reaches past"),
      with_view(0, {3, 3}, {INT64_MAX, INT64_MAX}, "reaches past"),
      with_view(-1, {1}, {1}, "tensor 'w': its storage offset has a negative number, -1"),
      with_view(0, {-1}, {1}, "its shape has a negative number, -1"),
      with_view(0, {2}, {-1}, "its strides has a negative number, -1"),
      with_view(0, {2, 2}, {1}, "its strides do not fit its shape (2, 2)"),
      with_view(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1), "more than 64 dimensions"),
  };
}

std::string rebuilt(const std::vector<std::string>& arguments) {
  return call(global("torch._utils", "_rebuild_tensor_v2"), arguments);
}

std::vector<Attack> tensor_attacks() {
  const std::string none = ordered_dict();
  const std::string wide = "\x8a\x09"s + std::string("\0\0\0\0\0\0\0\0\1", 9);  // 2^64
  const auto named = [](const std::string& type, const std::string& key, const std::string& elements) {
    return tuple({text("storage"), type, key, text("cpu"), elements}) + "Q";
  };
  const std::string floats = global("torch", "FloatStorage");
  return {
      with_tensor(rebuilt({kFloats, number(0), tuple({wide}), tuple({number(1)}), "\x89", none}),
                  "does not fit 64 bits"),
      with_tensor(rebuilt({kFloats, "N", numbers({1}), numbers({1}), "\x89", none}),
                  "storage offset has a value that"),
      with_tensor(rebuilt({kFloats, number(0), number(4), numbers({1}), "\x89", none}),
                  "its shape is no tuple"),
      with_tensor(rebuilt({kFloats, number(0), tuple({text("4")}), numbers({1}), "\x89", none}),
                  "no whole number"),
      with_tensor(tensor(storage("FloatStorage", "0", 5), 0, {1}, {1}),
                  "claims 5 elements of 4 bytes, but has 16 bytes"),
      with_tensor(tensor(storage("FloatStorage", "0", -1), 0, {1}, {1}),
                  "storage's size has a negative number"),
      with_tensor(tensor(storage("FloatStorage", "0", INT64_MAX), 0, {1}, {1}),
                  "elements of 4 bytes, but has 16"),
      with_tensor(tensor(storage("FloatStorage", "0", 1), 0, {4}, {1}), "reaches past the 1 elements"),
      with_tensor(tensor(storage("FloatStorage", "1", 4), 0, {4}, {1}), "storage '1' is missing"),
      with_tensor(tensor(storage("FloatStorage", "../data.pkl", 4), 0, {4}, {1}),
                  "storage '../data.pkl' is missing"),
      with_tensor(tensor(named(text("FloatStorage"), text("0"), number(4)), 0, {4}, {1}),
                  "not named as torch.save names"),
      with_tensor(tensor(named(floats, number(0), number(4)), 0, {4}, {1}), "not named as torch.save names"),
      with_tensor(tensor(named(floats, text("0"), text("4")), 0, {4}, {1}),
                  "storage's size has a value that is no"),
      with_tensor(tensor(tuple({}) + "Q", 0, {4}, {1}), "not named as torch.save names"),
      {archive(pickle(dict({text("w"), kWeights, text("w"), kWeights})), {kSixteen}),
       "tensor 'w' stands twice"},
  };
}

// Forty dictionaries, each holding the one before ten times.
std::string laughs() {
  std::string bomb = "}q\x01";
  for (char i = 1; i < 40; ++i) {
    std::string items;
    for (int k = 0; k < 10; ++k) items += text(std::to_string(k)) + "h" + i;
    bomb += "0}("s + items + "uq" + static_cast<char>(i + 1);
  }
  return bomb;
}

// Configurations without end, of which what is sane is kept.
std::vector<std::string> endless_configs() {
  const std::string deep = "}q\x01"s + text("a") + "h\x01s";  // holds itself
  std::string nested;
  for (int i = 0; i < 200; ++i) nested += concat("}", text("a"));
  nested += "N"s + std::string(200, 's');
  std::string copies = text(std::string(100'000, 'x')) + "q\x01" + "0}(";
  for (int i = 0; i < 100; ++i) copies += text(std::to_string(i)) + "h\x01";
  return {deep, nested, laughs(), copies + "u",
          dict({tuple({}), "N", text("a"), number(1), text("a"), number(2)})};
}

std::vector<Attack> shape_attacks() {
  return {
      {"", "is not a PyTorch file"},
      {"PK\x03", "is not a PyTorch file"},
      {"{\"a\": 1}", "is not a PyTorch file"},
      {"\x80\x02}q.", "is not a PyTorch file"},
      {"\x80\x02\x8a\x0alo\x9c"
       "F",
       "is not a PyTorch file"},
      {"PK\x03\x04 and no more", "the directory at the end of the zip archive is missing"},
      {zip_bytes({}), "the directory at the end"},
      {zip_bytes({{"data.pkl", pickle("}")}}), "a zip archive without a data.pkl"},
      {zip_bytes({{"a/b/data.pkl", pickle("}")}}), "a zip archive without a data.pkl"},
      {zip_bytes({{"a/data.pkl", pickle("}")}, {"b/data.pkl", pickle("}")}}),
       "holds two pickles, 'a/' and 'b/data.pkl'"},
      {zip_bytes({{"a/data.pkl", pickle("}")}, {"a/byteorder", std::string(65, ' ')}}),
       "byteorder entry has 65 bytes"},
      {zip_bytes({{"a/data.pkl", pickle("}")}, {"a/byteorder", "middle"}}), "its byte order is 'middle'"},
      {std::string("\x80\x02\x8a\x0al\xfc\x9c"
                   "F\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."),
       "ends in the middle of a value"},
  };
}

std::vector<Attack> unsupported_files() {
  const std::string self = "}q\x01"s + text("model") + "h\x01s";
  const std::string complex = tensor(storage("ComplexFloatStorage", "0", 2), 0, {2}, {1});
  const std::string negated = rebuilt(
      {kFloats, number(0), numbers({4}), numbers({1}), "\x89", ordered_dict(), dict({text("neg"), "\x88"})});
  return {
      {archive(pickle("N"), {}), "its top value is no dictionary"},
      {archive(pickle(kWeights), {kSixteen}), "its top value is no dictionary"},
      {archive(pickle(dict({text("w\xff"), kWeights})), {kSixteen}), "its keys are 'w\\xff'"},
      {archive(pickle(dict({text("epoch"), number(3), text("unheard of"), "}"})), {}),
       "its keys are 'epoch', 'unheard of'"},
      {archive(pickle(self), {}), "holds no state_dict"},
      {archive(pickle(call(global("os", "system"), {text("true")})), {}), "its top value is no dictionary"},
      with_tensor(call(global("os", "system"), {text("true")}), "tensor 'w' is an object of 'os.system'"),
      {std::string("\x80\x02\x8a\x0al\xfc\x9c"
                   "F\xf9 j\xa8P\x19.\x80\x02M\xe8\x03.") +
           kSixteen,
       "in a format of PyTorch before 1.6 that is not 1001; convert it in Python"},
      {std::string(257, 'a') + "ustar  " + std::string(300, '\0'), "before 0.1.10; convert it in Python"},
      {zip_bytes({{"a/data.pkl", pickle("}")}, {"a/constants.pkl", pickle(")")}}),
       "is a TorchScript archive"},
      with_tensor(complex,
                  "tensor 'w' has the type torch.ComplexFloatStorage, which bdh does not compute with"),
      with_tensor(negated, "tensor 'w' is a conjugate or negated view"),
  };
}

void check_refused(const std::vector<Attack>& attacks, ErrorKind kind) {
  const TemporaryDirectory directory;
  for (const auto& refused : attacks) {
    CAPTURE(refused.fragment);
    const fs::path path = directory.write("attack.pt", refused.file);
    const Thrown thrown = thrown_by([&] {
      const TorchFile file = TorchFile::open(path);
      for (const auto& [name, error] : file.unreadable) throw Error(error);
    });
    CAPTURE(thrown.message);
    CHECK(thrown.kind == kind);
    CHECK(thrown.says(path.string()));
    CHECK(thrown.says(refused.fragment));
    CHECK_FALSE(thrown.says("\n"));
  }
}

// The tensors are views into `bytes`.
TorchFile open_bytes(const std::string& bytes) {
  return read_torch_file(std::as_bytes(std::span(bytes)), nullptr, "model.pt");
}

// Reads every element, so that a sanitizer sees a view that is wrong.
void read_all(const std::string& bytes) {
  try {
    (void)dump_of(open_bytes(bytes));
  } catch (const Error&) {
  }
}

}  // namespace

TEST_CASE("torch: views beyond their storage") { check_refused(view_attacks(), ErrorKind::bad_file); }
TEST_CASE("torch: tensors that contradict themselves") {
  check_refused(tensor_attacks(), ErrorKind::bad_file);
}
TEST_CASE("torch: configurations without end are cut, and stop no tensor") {
  for (const std::string& config : endless_configs()) {
    const TorchFile file = open_bytes(archive(
        pickle(dict({text("config"), config, text("model"), dict({text("w"), kWeights})})), {kSixteen}));
    CHECK(file.tensors.contains("w"));
    CHECK(file.values.find("config")->dump().size() < 20'000'000);
  }
  const TorchFile twice = open_bytes(archive(
      pickle(dict({text("config"), endless_configs().back(), text("model"), dict({text("w"), kWeights})})),
      {kSixteen}));
  CHECK(twice.values.find("config")->dump() == "{\"a\": 2}");
}
TEST_CASE("torch: a config after thousands of other values is found") {
  std::vector<std::string> members{text("model"), dict({text("w"), kWeights})};
  for (int64_t i = 0; i < 5000; ++i) members.insert(members.end(), {text(concat("k", i)), number(i)});
  members.insert(members.end(), {text("config"), dict({text("a"), number(1)})});
  const TorchFile file = open_bytes(archive(pickle(dict(members)), {kSixteen}));
  CHECK(file.values.find("config") != nullptr);
}
TEST_CASE("torch: a member without end takes none of the others with it") {
  const std::string config = dict({text("a"), number(1), text("endless"), laughs(), text("b"), number(2)});
  const TorchFile file = open_bytes(archive(
      pickle(dict({text("config"), config, text("model"), dict({text("w"), kWeights})})), {kSixteen}));
  for (const char* key : {"a", "b"}) CHECK(file.values.find("config")->find(key)->is_integer());
}
TEST_CASE("torch: files that are something else") { check_refused(shape_attacks(), ErrorKind::bad_file); }
TEST_CASE("torch: what bdh does not read") { check_refused(unsupported_files(), ErrorKind::unsupported); }

TEST_CASE("torch: what is beside the state_dict is not looked at") {
  const std::string optimizer =
      dict({text("state"), tensor(storage("FloatStorage", "gone", 9), -1, {-1}, {})});
  const TorchFile file =
      open_bytes(archive(pickle(dict({text("optimizer"), optimizer, text("laughs"), laughs(),
                                      text("state_dict"), dict({text("w"), kWeights})})),
                         {kSixteen}));
  CHECK(file.tensors.size() == 1);
  CHECK(file.values.find("config") == nullptr);
}

TEST_CASE("torch: beside tensors without a wrapper lies what counts too, under any names") {
  const TorchFile file =
      open_bytes(archive(pickle(dict({text("w"), kWeights, text("config"), dict({text("a"), number(1)}),
                                      text("lone surrogate \xed\xa0\x80"), kWeights, text("\xed\xa0\x80"),
                                      call(global("a", "b"), {})})),
                         {kSixteen}));
  CHECK(file.tensors.size() == 1);
  CHECK(file.unreadable.empty());
  CHECK(file.values.find("config")->find("a")->as_integer() == 1);
}

TEST_CASE("torch: a config under a wrapper's name is no state_dict") {
  const std::string config = dict({text("n_layer"), number(2), text("model"), dict({text("a"), number(1)})});
  const TorchFile file = open_bytes(
      archive(pickle(dict({text("model"), config, text("net"), dict({text("w"), kWeights})})), {kSixteen}));
  CHECK(file.tensors.size() == 1);
}

TEST_CASE("torch: what JSON has no value for is named, so that no key looks switched off") {
  const std::string config =
      dict({text("tensor"), kWeights, text("object"), call(global("numpy", "array"), {}), text("none"), "N"});
  const TorchFile file = open_bytes(archive(
      pickle(dict({text("model"), dict({text("w"), kWeights}), text("config"), config})), {kSixteen}));
  CHECK(file.values.find("config")->dump() ==
        R"({"tensor": "a tensor", "object": "an object of 'numpy.array'", "none": null})");
}

TEST_CASE("torch: attributes of a module that others wrap") {
  const auto module = [](const std::string& weights, const std::string& inner, const std::string& attribute) {
    return call(global("any", "Module"), {}) +
           dict({text("_parameters"), weights, text("_buffers"), "}", text("_modules"), inner, attribute,
                 number(1)}) +
           "b";
  };
  const std::string model = module(dict({text("w"), kWeights}), "}", text("n_layer"));
  const std::string compiled = module("}", dict({text("_orig_mod"), model}), text("compiled"));
  const std::string parallel = module("}", dict({text("module"), compiled}), text("dim"));
  const TorchFile file = open_bytes(archive(pickle(parallel), {kSixteen}));
  CHECK(file.tensors.contains("module._orig_mod.w"));
  for (const char* attribute : {"n_layer", "compiled", "dim"}) CHECK(file.values.find(attribute) != nullptr);
}

TEST_CASE("torch: checkpoints in checkpoints, and names that look like them") {
  const std::string inner =
      dict({text("state_dict"), dict({text("w"), kWeights}), text("config"), dict({text("a"), number(1)})});
  const TorchFile nested = open_bytes(archive(pickle(dict({text("model"), inner})), {kSixteen}));
  CHECK(nested.tensors.count("w") == 1);
  CHECK(nested.values.find("config")->find("a")->as_integer() == 1);
  const TorchFile plain = open_bytes(
      archive(pickle(dict({text("model"), kWeights, text("config"), kWeights, number(3), "N"})), {kSixteen}));
  CHECK(plain.tensors.size() == 2);
  CHECK(plain.values.as_object().empty());
}

TEST_CASE("torch: strides that reach no second element may be any number") {
  const std::string bytes =
      archive(pickle(dict({text("one"), tensor(kFloats, 3, {1, 1}, {INT64_MAX, INT64_MAX}), text("none"),
                           tensor(kFloats, INT64_MAX, {0, 3}, {INT64_MAX, 1})})),
              {kSixteen});
  const TorchFile file = open_bytes(bytes);
  CHECK(hexadecimal(file.tensors.at("one")) == "78787878");
  CHECK(file.tensors.at("none").bytes() == 0);
}

TEST_CASE("torch: cut and mutated files") {
  const fs::path golden = fs::path(bdh::test::kTestData) / "torch";
  std::mt19937 random(5);
  for (const char* name : {"views.pt", "deflated.pt", "protocol4.pt", "attributes.pt"}) {
    const std::string good = read_file(golden / name);
    for (int i = 0; i < 400; ++i) {
      std::string bytes = good;
      if (i % 8 == 0) bytes.resize(random() % good.size());
      for (unsigned k = 0; k < 1 + random() % 4 && !bytes.empty(); ++k)
        bytes[random() % bytes.size()] = static_cast<char>(random());
      read_all(bytes);
    }
  }
}

TEST_CASE("torch: mutated pickles in archives that are right otherwise") {
  const std::string good =
      pickle(dict({text("config"), dict({text("n"), number(1)}), text("model"),
                   dict({text("w"), kWeights, text("v"), tensor(kFloats, 1, {3}, {1})})}));
  std::mt19937 random(6);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = good;
    for (unsigned k = 0; k < 1 + random() % 3; ++k)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    read_all(archive(bytes, {kSixteen}));
  }
}
