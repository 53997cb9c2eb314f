// The C API's models and sessions: what it gives is what the C++ API gives; every failure is a status and a
// message.
#include "bdh/bdh_c.h"

#include <doctest/doctest.h>
#include <signal.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/bdh.h"
#include "tests/support/backends.h"
#include "tests/support/c_api.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"

namespace {

using namespace bdh::test;

constexpr size_t kVocab = 256;

std::string text_of(const std::filesystem::path& path) { return bdh::read_text(path, 1'000'000); }

struct Buffers {
  std::string weights, config;
  int released = 0;
  bdh_model_buffers buffers{};

  explicit Buffers(const std::filesystem::path& directory)
      : weights(text_of(directory / "model.safetensors")), config(text_of(directory / "config.json")) {
    REQUIRE(bdh_model_buffers_defaults(&buffers, sizeof buffers) == BDH_OK);
    buffers.weights = weights.data();
    buffers.weights_size = weights.size();
    buffers.config = config.data();
    buffers.config_size = config.size();
    buffers.release = [](void* user) { ++*static_cast<int*>(user); };
    buffers.user = &released;
  }
};

template <class Function>
std::string text_from(const Function& function) {
  size_t length = 0;
  REQUIRE(function(nullptr, 0, &length) == BDH_OK);
  std::string text(length, ' ');
  REQUIRE(function(text.data(), text.size(), &length) == BDH_OK);
  CHECK(length == text.size());
  return text;
}

}  // namespace

TEST_CASE("C API: logits, sessions, clones and saved states are those of C++") {
  LoadedInC c;
  const bdh::Model model = bdh::Model::from_pretrained(c.directory.path());
  bdh::Session session(model.weights);
  const std::vector<int32_t> tokens{84, 111, 32, 98};
  CHECK(read_in_c(c.session, tokens) == session.read(tokens));
  CHECK(position_of(c.session) == 4);

  bdh_session* copy = nullptr;
  REQUIRE(bdh_session_clone(c.session, &copy) == BDH_OK);
  const std::string path = (c.directory / "state.safetensors").string();
  REQUIRE(bdh_session_save(c.session, path.c_str()) == BDH_OK);
  const std::vector<float> next = read_in_c(c.session, {101});
  CHECK(next == session.read(std::vector<int32_t>{101}));
  CHECK(read_in_c(copy, {101}) == next);
  REQUIRE(bdh_session_reset(copy) == BDH_OK);
  CHECK(position_of(copy) == 0);
  REQUIRE(bdh_session_restore(copy, path.c_str()) == BDH_OK);
  CHECK(position_of(copy) == 4);
  bdh_model_free(c.model);
  c.model = nullptr;
  CHECK(read_in_c(copy, {101}) == next);
  bdh_session_free(copy);
}

TEST_CASE("C API: logits of all tokens, of the last or of none, alone and in a batch") {
  LoadedInC c;
  const bdh::Model model = bdh::Model::from_pretrained(c.directory.path());
  const std::vector<int32_t> first{84, 111, 32}, second{98, 101}, third{7};
  bdh::Session session(model.weights);
  const std::vector<float> all = session.read_all(first);

  std::vector<float> got(first.size() * kVocab);
  REQUIRE(bdh_session_read(c.session, first.data(), 3, BDH_LOGITS_ALL, got.data(), got.size()) == BDH_OK);
  CHECK(got == all);
  REQUIRE(bdh_session_reset(c.session) == BDH_OK);
  REQUIRE(bdh_session_read(c.session, first.data(), 3, BDH_LOGITS_NONE, nullptr, 0) == BDH_OK);
  CHECK(position_of(c.session) == 3);
  CHECK(read_in_c(c.session, third) == session.read(third));

  std::array<bdh_session*, 3> sessions{};
  for (bdh_session*& one : sessions) REQUIRE(bdh_session_new(c.model, &one) == BDH_OK);
  std::vector<float> last(kVocab);
  const std::array<bdh_read, 3> reads{
      {{sessions[0], first.data(), 3, got.data(), got.size(), BDH_LOGITS_ALL, 0},
       {sessions[1], second.data(), 2, last.data(), kVocab, BDH_LOGITS_LAST, 0},
       {sessions[2], third.data(), 1, nullptr, 0, BDH_LOGITS_NONE, 0}}};
  std::fill(got.begin(), got.end(), 0.0f);
  REQUIRE(bdh_session_read_batch(reads.data(), 3, sizeof(bdh_read)) == BDH_OK);
  CHECK(relative_difference(got, all) < 1e-5);
  CHECK(relative_difference(last, bdh::Session(model.weights).read(second)) < 1e-5);
  for (size_t i = 0; i < 3; ++i) CHECK(position_of(sessions[i]) == std::array{3, 2, 1}[i]);

  std::array<bdh_read, 2> wrong{reads[1], reads[1]};
  CHECK(bdh_session_read_batch(wrong.data(), 2, sizeof(bdh_read)) == BDH_INVALID_ARGUMENT);
  CHECK(says("twice"));
  wrong[1].session = sessions[2];
  wrong[1].capacity = kVocab - 1;
  CHECK(bdh_session_read_batch(wrong.data(), 2, sizeof(bdh_read)) == BDH_INVALID_ARGUMENT);
  CHECK(says("room for 255"));
  wrong[1].which = 3;
  CHECK(bdh_session_read_batch(wrong.data(), 2, sizeof(bdh_read)) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_read_batch(wrong.data(), 2, sizeof(bdh_read) - 8) == BDH_INVALID_ARGUMENT);
  CHECK(position_of(sessions[1]) == 2);
  for (bdh_session* one : sessions) bdh_session_free(one);
}

TEST_CASE("C API: a model in memory is the one in files") {
  LoadedInC c;
  Buffers memory(c.directory.path());
  const std::string generation = R"({"max_new_tokens": 7})";
  memory.buffers.generation_config = generation.data();
  memory.buffers.generation_config_size = generation.size();
  bdh_model* model = nullptr;
  bdh_session* session = nullptr;
  REQUIRE(bdh_model_load_buffers(&memory.buffers, nullptr, &model) == BDH_OK);
  CHECK(options_in_c(model).max_new_tokens == 7);
  REQUIRE(bdh_session_new(model, &session) == BDH_OK);
  bdh_model_free(model);
  CHECK(memory.released == 0);
  const std::vector<int32_t> tokens{84, 111, 32, 98};
  CHECK(read_in_c(session, tokens) == read_in_c(c.session, tokens));

  size_t size = 0;
  REQUIRE(bdh_session_save_buffer(c.session, nullptr, 0, &size) == BDH_OK);
  std::vector<char> kept(size);
  REQUIRE(bdh_session_save_buffer(c.session, kept.data(), size, &size) == BDH_OK);
  CHECK(bdh_session_restore_buffer(session, kept.data(), size) == BDH_OK);
  CHECK(bdh_session_restore_buffer(session, kept.data(), size / 2) == BDH_BAD_FILE);
  CHECK(position_of(session) == 4);
  bdh_session_free(session);
  CHECK(memory.released == 1);
}

TEST_CASE("C API: what is wrong in memory is refused, and the buffer given back") {
  LoadedInC c;
  Buffers memory(c.directory.path());
  bdh_model* model = nullptr;
  memory.buffers.weights_size /= 2;
  CHECK(bdh_model_load_buffers(&memory.buffers, nullptr, &model) == BDH_BAD_FILE);
  CHECK(says("model in memory/model.safetensors"));
  CHECK(memory.released == 1);
  memory.buffers.config_size = 0;
  CHECK(bdh_model_load_buffers(&memory.buffers, nullptr, &model) == BDH_BAD_FILE);
  memory.buffers.weights = nullptr;
  CHECK(bdh_model_load_buffers(&memory.buffers, nullptr, &model) == BDH_INVALID_ARGUMENT);
  memory.buffers.size = 1;
  CHECK(bdh_model_load_buffers(&memory.buffers, nullptr, &model) == BDH_INVALID_ARGUMENT);
  CHECK(says("sizeof"));
  CHECK(model == nullptr);
}

TEST_CASE("C API: sizes, config, metadata, memory and devices") {
  LoadedInC c;
  bdh_model_info info;
  REQUIRE(bdh_model_get_info(c.model, &info, sizeof info) == BDH_OK);
  CHECK(info.n_embd == 16);
  CHECK(info.neurons_per_head == 32);
  CHECK(info.parameters == tiny_config().parameters());
  CHECK(info.tokenizer_vocab_size == 256);
  CHECK(info.eos_token == -1);

  const std::string config = text_from([&](char* text, size_t capacity, size_t* length) {
    return bdh_model_config(c.model, text, capacity, length);
  });
  CHECK(bdh::Config::from_json(bdh::Json::parse(config, "config"), "config").n_layer == info.n_layer);
  CHECK(text_from([&](char* text, size_t capacity, size_t* length) {
          return bdh_model_metadata(c.model, text, capacity, length);
        }) == "{}");
  size_t length = 0;
  CHECK(bdh_model_metadata_value(c.model, "none", nullptr, 0, &length) == BDH_NOT_FOUND);

  bdh_memory_info memory;
  REQUIRE(bdh_model_get_memory(c.model, 100, &memory, sizeof memory) == BDH_OK);
  const bdh::Model model = bdh::Model::from_pretrained(c.directory.path());
  const bdh::MemoryNeed need =
      model.weights->backend().memory(model.config().dimensions(), bdh::DType::f32, 100);
  CHECK(memory.weights == need.weights);
  CHECK(memory.session == need.session);
  CHECK(memory.working == need.working);
  const auto rounded = static_cast<uint64_t>(model.config().state_bytes()) / 2;
  CHECK(memory.session_bf16 == (kOnCuda ? 0 : need.session - rounded));

  size_t devices = 0;
  bdh_device_info device;
  REQUIRE(bdh_device_count(&devices) == BDH_OK);
  REQUIRE(devices >= 1);
  REQUIRE(bdh_device_get_info(0, &device, sizeof device) == BDH_OK);
  CHECK(std::string(device.name) == "cpu");
  CHECK(std::string(device.description).find("threads") != std::string::npos);
  CHECK(bdh_device_get_info(devices, &device, sizeof device) == BDH_NOT_FOUND);
}

TEST_CASE("C API: quantized and packed models, from files and from memory") {
  const TemporaryDirectory directory;
  write_model(directory.path());
  const bdh::Model floats = bdh::Model::from_pretrained(directory.path());
  for (const bool packed : {false, true}) {
    for (const int64_t bits : {32, 16, 8, 4}) {
      CAPTURE(packed);
      CAPTURE(bits);
      const std::filesystem::path path = directory / "other";
      bdh::SaveOptions save;
      save.packed = packed, save.overwrite = true;
      if (bits == 16) save.dtype = bdh::DType::bf16;
      (bits < 16 ? bdh::quantized(floats, bits) : floats).save_pretrained(path, save);
      const bdh::Model model = bdh::Model::from_pretrained(path);
      const Buffers memory(path);
      bdh_model *from_files = nullptr, *from_memory = nullptr;
      REQUIRE(bdh_model_load(path.c_str(), nullptr, &from_files) == BDH_OK);
      REQUIRE(bdh_model_load_buffers(&memory.buffers, nullptr, &from_memory) == BDH_OK);
      const std::vector<int32_t> tokens{84, 111, 32, 98};
      const std::vector<float> want = bdh::Session(model.weights).read(tokens);
      for (bdh_model* loaded : {from_files, from_memory}) {
        bdh_model_info info;
        REQUIRE(bdh_model_get_info(loaded, &info, sizeof info) == BDH_OK);
        CHECK(info.weight_bits == bits);
        CHECK(info.packed == (packed ? 1 : 0));
        CHECK(std::string(info.dtype) == model.weights->dtype_name());
        bdh_memory_info need;
        REQUIRE(bdh_model_get_memory(loaded, 10, &need, sizeof need) == BDH_OK);
        CHECK(
            need.weights ==
            model.weights->backend().memory(model.config().dimensions(), model.weights->dtype(), 10).weights);
        bdh_session* session = nullptr;
        REQUIRE(bdh_session_new(loaded, &session) == BDH_OK);
        CHECK(read_in_c(session, tokens) == want);
        std::string text;
        const bdh_generation_options options = options_in_c(loaded, &text);
        CHECK(generate_in_c(session, "To be", &options) == BDH_OK);
        bdh_session_free(session);
      }
      const std::string config = text_from([&](char* text, size_t capacity, size_t* length) {
        return bdh_model_config(from_files, text, capacity, length);
      });
      CHECK((config.find("quantization_config") != std::string::npos) == (bits < 16));
      CHECK(run_program(kCProgram, {path.string(), "To be"}).exit_code == 0);
      bdh_load_options options;
      REQUIRE(bdh_load_options_defaults(&options, sizeof options) == BDH_OK);
      options.dtype = "bf16";
      bdh_model* other = nullptr;
      CHECK(bdh_model_load(path.c_str(), &options, &other) == (bits < 16 ? BDH_INVALID_ARGUMENT : BDH_OK));
      for (bdh_model* loaded : {from_files, from_memory, other}) bdh_model_free(loaded);
    }
  }
}

TEST_CASE("C API: metadata of the weights files, and warnings of a load") {
  TemporaryDirectory directory;
  write_model(directory.path());
  bdh::Model made = bdh::Model::from_pretrained(directory.path());
  made.metadata["license"] = "MIT";
  bdh::SaveOptions save;
  save.metadata = made.metadata;
  made.save_pretrained(directory / "saved", save);
  write_file(directory / "saved" / "pytorch_model.bin", "old");
  bdh_load_options options;
  REQUIRE(bdh_load_options_defaults(&options, sizeof options) == BDH_OK);
  std::string warnings;
  options.user = &warnings;
  options.on_warning = [](void* user, const char* message) { *static_cast<std::string*>(user) += message; };
  bdh_model* model = nullptr;
  REQUIRE(bdh_model_load((directory / "saved").c_str(), &options, &model) == BDH_OK);
  CHECK(warnings.find("pytorch_model.bin") != std::string::npos);
  CHECK(text_from([&](char* text, size_t capacity, size_t* length) {
          return bdh_model_metadata_value(model, "license", text, capacity, length);
        }) == "MIT");
  bdh_model_free(model);
}

TEST_CASE("C API: a model with adapters in its weights is the one of C++, and its base stays") {
  const std::filesystem::path adapters = std::filesystem::path(kTestData) / "adapters";
  bdh_load_options options;
  REQUIRE(bdh_load_options_defaults(&options, sizeof options) == BDH_OK);
  options.device = "cpu";
  options.dtype = "f32";
  bdh_model *base = nullptr, *merged = nullptr;
  REQUIRE(bdh_model_load((adapters / "tied").c_str(), &options, &base) == BDH_OK);
  const std::string matrices = (adapters / "matrices").string(), rslora = (adapters / "rslora").string();
  const bdh_adapter two[] = {{matrices.c_str(), 1}, {rslora.c_str(), -0.5}};
  REQUIRE(bdh_model_merge_adapters(base, two, 2, &merged) == BDH_OK);

  const auto logits_in_c = [](const bdh_model* model) {
    bdh_session* session = nullptr;
    REQUIRE(bdh_session_new(model, &session) == BDH_OK);
    const int32_t tokens[] = {3, 1, 4, 1, 5};
    bdh_model_info info;
    REQUIRE(bdh_model_get_info(model, &info, sizeof info) == BDH_OK);
    std::vector<float> logits(static_cast<size_t>(info.vocab_size));
    REQUIRE(bdh_session_read(session, tokens, 5, BDH_LOGITS_LAST, logits.data(), logits.size()) == BDH_OK);
    bdh_session_free(session);
    return logits;
  };
  const auto logits_in_cpp = [](const bdh::Model& model) {
    return bdh::Session(model.weights).read(std::vector<int32_t>{3, 1, 4, 1, 5});
  };
  const bdh::Model model =
      bdh::Model::from_pretrained(adapters / "tied", {.device = "cpu", .dtype = bdh::DType::f32});
  const bdh::AppliedAdapter applied[] = {{bdh::load_peft_adapter(matrices, model.config()), 1},
                                         {bdh::load_peft_adapter(rslora, model.config()), -0.5}};
  const std::vector<float> plain = logits_in_c(base);
  CHECK(plain == logits_in_cpp(model));
  CHECK(logits_in_c(merged) == logits_in_cpp(bdh::merged(model, applied)));
  CHECK(logits_in_c(merged) != plain);
  bdh_model* beside = nullptr;
  REQUIRE(bdh_model_apply_adapters(base, two, 2, &beside) == BDH_OK);
  CHECK(bdh::test::relative_difference(logits_in_c(beside), logits_in_c(merged)) < 1e-5);
  bdh_model_free(base);
  CHECK(logits_in_c(merged) == logits_in_cpp(bdh::merged(model, applied)));

  bdh_model* none = merged;
  CHECK(bdh_model_apply_adapters(beside, two, 1, &none) == BDH_UNSUPPORTED);
  bdh_model_free(beside);
  const bdh_adapter missing{"/nowhere/at/all", 1}, nameless{nullptr, 1};
  CHECK(bdh_model_merge_adapters(merged, &missing, 1, &none) == BDH_NOT_FOUND);
  CHECK(none == nullptr);
  CHECK(bdh_model_merge_adapters(merged, &nameless, 1, &none) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_model_merge_adapters(merged, nullptr, 1, &none) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_model_merge_adapters(nullptr, two, 1, &none) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_model_merge_adapters(merged, two, 1, nullptr) == BDH_INVALID_ARGUMENT);
  bdh_model_free(merged);
}

TEST_CASE("C API: a horizon that is none is refused") {
  LoadedInC c;
  const float wrong[] = {0}, many[] = {1, 2, 3};
  CHECK(bdh_session_set_horizon(c.session, wrong, 1) == BDH_INVALID_ARGUMENT);
  CHECK(says("horizon must be a positive number of tokens"));
  CHECK(bdh_session_set_horizon(c.session, many, 3) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_set_horizon(c.session, nullptr, 1) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_set_horizon(nullptr, many, 1) == BDH_INVALID_ARGUMENT);
}

TEST_CASE("C API: a state as bfloat16, and dtypes that are none") {
  LoadedInC c;
  bdh_session* rounded = nullptr;
  if (kOnCuda) {
    CHECK(bdh_session_set_state_dtype(c.session, "bf16") == BDH_UNSUPPORTED);
    CHECK(says("keeps a session's state as F32"));
    return;
  }
  REQUIRE(bdh_session_clone(c.session, &rounded) == BDH_OK);
  REQUIRE(bdh_session_set_state_dtype(rounded, "bf16") == BDH_OK);
  std::vector<int32_t> text(40);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int32_t>(i % 7);
  read_in_c(c.session, text);
  read_in_c(rounded, text);
  const std::vector<float> exact = read_in_c(c.session, {4}), close = read_in_c(rounded, {4});
  CHECK(close != exact);
  CHECK(relative_difference(close, exact) < 3e-2);
  REQUIRE(bdh_session_set_state_dtype(rounded, "f32") == BDH_OK);
  read_in_c(rounded, text);
  CHECK(read_in_c(rounded, {4}) == exact);
  for (const char* wrong : {"f16", "BF16 ", "", "int8"}) {
    CHECK(bdh_session_set_state_dtype(rounded, wrong) == BDH_INVALID_ARGUMENT);
    CHECK(says("dtype of a state must be f32 or bf16"));
  }
  CHECK(bdh_session_set_state_dtype(rounded, nullptr) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_set_state_dtype(nullptr, "f32") == BDH_INVALID_ARGUMENT);
  bdh_session_free(rounded);
}

TEST_CASE("C API: a session takes the horizon of what is restored, unless it has its own") {
  LoadedInC c;
  const float horizon[] = {5}, other[] = {6};
  bdh_session* damped = nullptr;
  REQUIRE(bdh_session_clone(c.session, &damped) == BDH_OK);
  REQUIRE(bdh_session_set_horizon(damped, horizon, 1) == BDH_OK);
  read_in_c(damped, {1, 2, 3});
  const std::string path = (c.directory / "damped").string();
  REQUIRE(bdh_session_save(damped, path.c_str()) == BDH_OK);
  REQUIRE(bdh_session_restore(c.session, path.c_str()) == BDH_OK);
  CHECK(read_in_c(c.session, {4}) == read_in_c(damped, {4}));
  REQUIRE(bdh_session_set_horizon(c.session, other, 1) == BDH_OK);
  CHECK(bdh_session_restore(c.session, path.c_str()) == BDH_BAD_FILE);
  CHECK(says("horizon"));
  bdh_session_free(damped);
}

TEST_CASE("C API: every failure is a status and a message") {
  LoadedInC c;
  bdh_model* model = nullptr;
  CHECK(bdh_model_load("/nowhere/at/all", nullptr, &model) == BDH_NOT_FOUND);
  CHECK(says("/nowhere/at/all"));
  CHECK(model == nullptr);
  bdh_load_options options;
  REQUIRE(bdh_load_options_defaults(&options, sizeof options) == BDH_OK);
  options.dtype = "f4";
  CHECK(bdh_model_load(c.directory.path().c_str(), &options, &model) == BDH_INVALID_ARGUMENT);
  CHECK(says("f4"));
  options.dtype = nullptr;
  options.device = "cuda:4095";
  CHECK(bdh_model_load(c.directory.path().c_str(), &options, &model) != BDH_OK);
  CHECK(says("--device cpu"));
  options.size -= 1;
  CHECK(bdh_model_load(c.directory.path().c_str(), &options, &model) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_load_options_defaults(&options, sizeof options + 1) == BDH_INVALID_ARGUMENT);
  const int32_t token = 256;
  CHECK(bdh_session_read(c.session, &token, 1, BDH_LOGITS_NONE, nullptr, 0) == BDH_INVALID_ARGUMENT);
  CHECK(says("256"));
  CHECK(bdh_session_read(c.session, &token, 0, BDH_LOGITS_NONE, nullptr, 0) == BDH_INVALID_ARGUMENT);
  CHECK(bdh_session_read(nullptr, &token, 1, BDH_LOGITS_NONE, nullptr, 0) == BDH_INVALID_ARGUMENT);
  CHECK(says("session must not be NULL"));
  CHECK(bdh_session_restore(c.session, "/nowhere") == BDH_NOT_FOUND);
  CHECK(position_of(c.session) == 0);
  write_file(c.directory / "config.json", "{");
  CHECK(bdh_model_load(c.directory.path().c_str(), nullptr, &model) == BDH_BAD_FILE);
}

TEST_CASE("C API: threads start with the first session, and signals stay the program's") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const auto handlers = [] {
    std::vector<void (*)(int)> all;
    for (int signal = 1; signal < NSIG; ++signal) {
      struct sigaction action {};
      all.push_back(sigaction(signal, nullptr, &action) == 0 ? action.sa_handler : nullptr);
    }
    return all;
  };
  const auto threads = [] {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const auto threads_before = threads();
  const auto handlers_before = handlers();
  bdh_load_options options;
  REQUIRE(bdh_load_options_defaults(&options, sizeof options) == BDH_OK);
  options.device = "cpu";
  bdh_model* model = nullptr;
  bdh_session* session = nullptr;
  REQUIRE(bdh_model_load(directory.path().c_str(), &options, &model) == BDH_OK);
  CHECK(threads() <= threads_before);
  REQUIRE(bdh_session_new(model, &session) == BDH_OK);
  REQUIRE(generate_in_c(session, "To be", nullptr) == BDH_OK);
  CHECK(handlers() == handlers_before);
  bdh_session_free(session);
  bdh_model_free(model);
}

TEST_CASE("C API: a program in C") {
  LoadedInC c;
  const auto run = [](const std::string& directory) { return run_program(kCProgram, {directory, "To be"}); };
  const CommandResult good = run(c.directory.path().string());
  CHECK_MESSAGE(good.exit_code == 0, good.err);
  CHECK(good.out.find("5 tokens read, 40 written") != std::string::npos);
  CHECK(good.err == "");
  const CommandResult bad = run("/nowhere/at/all");
  CHECK(bad.exit_code == 1);
  CHECK(bad.err.find("/nowhere/at/all") != std::string::npos);
}
