// Checkpoints as public repositories save them, with their own code's logits, or what a refusal names:
// tests/data/dialects, written by tests/parity/dialects_parity.py.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/torch_support.h"
#include "tests/support/json_numbers.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::ErrorKind;
using bdh::Form;
using bdh::Json;
using bdh::Model;
using bdh::test::numbers;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;

const fs::path kDialects = fs::path(bdh::test::kTestData) / "dialects";
constexpr double kTolerance = 1e-5;

struct Case {
  std::string file;
  const Json& expected;

  const Json* refused() const { return expected.find("refused"); }

  Model load(const TemporaryDirectory& directory) const {
    bdh::LoadOptions options;
    options.device = "cpu";
    options.dtype = bdh::DType::f32;
    const Json* config = expected.find("config");
    const fs::path given = config ? directory.write("given.json", config->dump()) : fs::path();
    return Model::from_weights_file(kDialects / file, given, options);
  }
};

void check_logits(const Case& that, const Model& model) {
  const std::vector<int32_t> tokens = numbers<int32_t>(*that.expected.find("tokens"));
  const std::vector<float> want = numbers<float>(*that.expected.find("last"));
  for (const Form form : {Form::parallel, Form::chunked, Form::recurrent}) {
    bdh::Session session(model.weights);
    const std::vector<float> got = session.read(tokens, bdh::test::in_form(form, 4));
    CHECK(bdh::test::relative_difference(got, want) <= kTolerance);
  }
}

/// The file's name may hold the words that are looked for.
std::string without(std::string text, const std::string& file) {
  const size_t at = text.find(file);
  return at == text.npos ? text : text.erase(at, file.size());
}

void check(const Case& that) {
  CAPTURE(that.file);
  const TemporaryDirectory directory;
  const Thrown thrown = bdh::test::thrown_by([&] { check_logits(that, that.load(directory)); });
  CAPTURE(thrown.message);
  CHECK(thrown.kind.has_value() == (that.refused() != nullptr));
  if (that.refused() == nullptr) return;
  CHECK(without(thrown.message, that.file).find(that.refused()->as_string()) != std::string::npos);
  CHECK_FALSE(thrown.says("damaged"));
}

bool reads_torch() {
  const Thrown thrown = bdh::test::thrown_by([] { bdh::open_torch_file("/nowhere.pt"); });
  return thrown.kind != ErrorKind::unsupported;
}

}  // namespace

TEST_CASE(
    "dialects: checkpoints of public repositories give their own code's logits, or are refused by name") {
  if (!reads_torch()) return;
  const fs::path cases = kDialects / "cases.json";
  const Json all = Json::parse(bdh::test::read_file(cases), cases.string());
  CHECK(all.as_object().size() > 25);
  for (const auto& [file, expected] : all.as_object()) check({file, expected});
}
