// `bdh gradients`: the file it writes against float64, its options, and input that makes no sense. Runs the
// built program.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/training_models.h"

namespace {

using namespace bdh::test;

struct Written {
  double loss;
  NamedNumbers gradients;
};

struct GradientsRun {
  bdh::Config config;
  TemporaryDirectory directory;
  std::string out = (directory / "gradients.safetensors").string();

  explicit GradientsRun(bdh::Config of = tiny_config()) : config(std::move(of)) {
    write_model(directory.path(), config);
  }

  CommandResult run(const std::vector<std::string>& more) const {
    return run_command(joined({"gradients", directory.path().string(), "--out", out}, more));
  }

  Written written(const std::vector<std::string>& more) const {
    const CommandResult result =
        run(joined({"--tokens", "84,111,32,0,16,7", "--targets=1,2,-1,200,9,84"}, more));
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    CHECK(result.out.empty());
    const bdh::SafetensorsFile file = bdh::SafetensorsFile::open(out);
    bdh::TensorMap tensors;
    for (const bdh::TensorInfo& info : file.tensors()) tensors[info.name] = file.tensor(info.name);
    CHECK(tensors.at("loss").shape.empty());
    Written all{named_numbers(tensors).at("loss").front(), named_numbers(tensors)};
    all.gradients.erase("loss");
    return all;
  }

  // The same in float64.
  Written wanted(const std::vector<float>& horizons) const {
    const std::vector<int32_t> tokens{84, 111, 32, 0, 16, 7}, targets{1, 2, -1, 200, 9, 84};
    bdh::MicroBatch batch;
    batch.sequences = 1;
    batch.tokens = 6;
    batch.inputs = tokens;
    batch.targets = targets;
    const NamedNumbers parameters = named_numbers(bdh::random_state_dict(config, 7));
    ReferenceLoss loss = reference_gradient(reference_model(config, horizons), parameters, batch);
    for (auto& [name, numbers] : loss.gradients)
      for (double& number : numbers) number /= 5;
    return {loss.nats / 5, loss.gradients};
  }
};

void check_same(const Written& got, const Written& want, double tolerance) {
  CHECK(got.loss == doctest::Approx(want.loss).epsilon(tolerance));
  CHECK(got.gradients.size() == want.gradients.size());
  for (const auto& gradient : want.gradients) {
    const std::string& name = gradient.first;
    const auto& numbers = gradient.second;
    CAPTURE(name);
    REQUIRE(got.gradients.count(name) == 1);
    CHECK(relative_error(got.gradients.at(name), numbers) <= tolerance);
  }
}

}  // namespace

TEST_CASE("bdh gradients: of the mean loss, by state_dict name, in both forms") {
  for (const bdh::Config& config : {tiny_config(), untied(tiny_config()), untied(config_of(1, 16, 2, 4))}) {
    const GradientsRun command(config);
    const Written want = command.wanted({});
    for (const std::vector<std::string>& form : std::vector<std::vector<std::string>>{
             {}, {"--form", "parallel"}, {"--form", "chunked", "--chunk", "4"}, {"--threads", "1"}})
      check_same(command.written(form), want, 1e-4);
  }
}

TEST_CASE("bdh gradients: a horizon and precisions") {
  const GradientsRun command;
  check_same(command.written({"--horizon", "3"}), command.wanted({3, 3}), 1e-4);
  check_same(command.written({"--horizon", "3,inf"}), command.wanted({3, INFINITY}), 1e-4);
  const Written single = command.written({}), half = command.written({"--dtype", "bf16"});
  CHECK(half.loss != single.loss);
  CHECK(half.loss == doctest::Approx(single.loss).epsilon(0.01));
}

TEST_CASE("bdh gradients: what makes no sense is one line, and nothing is written") {
  const GradientsRun command;
  const auto refused = [&](const std::vector<std::string>& options, int code, const std::string& part) {
    const CommandResult result = command.run(options);
    CHECK(result.exit_code == code);
    CHECK_MESSAGE(result.err.find(part) != std::string::npos, result.err);
    CHECK_FALSE(std::filesystem::exists(command.out));
  };
  refused({"--tokens", "1,2", "--targets", "2"}, 1, "2 tokens and 1 targets");
  refused({"--tokens", "1,256", "--targets", "2,3"}, 1, "token 1 is 256, outside the vocabulary");
  refused({"--tokens", "1,2", "--targets", "2,256"}, 1, "token 1 is 256, outside the vocabulary");
  refused({"--tokens", "1,2", "--targets=2,-2"}, 1, "token 1 is -2, outside");
  refused({"--tokens", "1,2", "--targets=-1,-1"}, 1, "no target counts");
  refused({"--tokens", "1", "--targets", "2", "--form", "recurrent"}, 2, "--form");
  refused({"--tokens", "1", "--targets", "2", "--horizon", "1,2,3"}, 1, "3 horizons for 2 heads");
  refused({"--tokens", "1"}, 2, "--targets");
}
