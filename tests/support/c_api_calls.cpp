// Sequences of calls on the C API, as bytes choose them. Buffers are as long as they are said to be, so that
// a sanitizer sees what is written past them.
#include "tests/support/c_api_calls.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"
#include "bdh/model/weights.h"
#include "tests/support/models.h"

namespace bdh::test {
namespace {

constexpr size_t kVocab = 256;
constexpr size_t kSlots = 3;

void expect(bool holds, const std::string& promise) {
  if (!holds) throw std::logic_error("C API: " + promise);
}

struct Files {
  std::vector<std::byte> weights;
  std::string config, generation;
};

Files files_of(int64_t bits, bool packed) {
  const Config floats = config_of(1, 4, 1, 2), config = with_weight_bits(floats, bits);
  TensorMap tensors = random_state_dict(floats, 1);
  if (bits != 0) tensors = quantized(floats, tensors, bits);
  Metadata metadata{{"license", "MIT"}};
  if (packed) {
    tensors = packed_state_dict(config, tensors);
    metadata[kLayoutKey] = kPackedLayout;
  }
  return {safetensors_bytes(tensors, metadata, packed ? kPackedAlignment : kSafetensorsAlignment),
          with_packed(config, packed).to_json().dump(),
          R"({"do_sample": true, "max_new_tokens": 4, "horizon": 8, "stop": ["zq"]})"};
}

/// Floats first, then quantized and packed ones.
const std::vector<Files>& files() {
  static const std::vector<Files> made{files_of(0, false), files_of(8, false), files_of(4, false),
                                       files_of(0, true),  files_of(8, true),  files_of(4, true)};
  return made;
}

bdh_model_buffers buffers_of(const Files& from) {
  bdh_model_buffers buffers;
  expect(bdh_model_buffers_defaults(&buffers, sizeof buffers) == BDH_OK, "bdh_model_buffers_defaults");
  buffers.weights = from.weights.data();
  buffers.weights_size = from.weights.size();
  buffers.config = from.config.data();
  buffers.config_size = from.config.size();
  buffers.generation_config = from.generation.data();
  buffers.generation_config_size = from.generation.size();
  return buffers;
}

bdh_load_options load_options() {
  bdh_load_options options;
  expect(bdh_load_options_defaults(&options, sizeof options) == BDH_OK, "bdh_load_options_defaults");
  options.device = "cpu";
  options.threads = 1;
  return options;
}

/// What callbacks are told, and when they stop.
struct Listener {
  int calls_left = 1;
  int stop() { return --calls_left >= 0; }
};

int on_text(void* user, const char* text, size_t length) {
  expect(text && length > 0, "a text callback without text");
  return static_cast<Listener*>(user)->stop();
}

int on_token(void* user, int32_t token, double log_probability) {
  expect(token >= 0 && token < int{kVocab} && log_probability <= 0, "a token that is none");
  return static_cast<Listener*>(user)->stop();
}

int on_prompt(void* user, int64_t done, int64_t total) {
  expect(done > 0 && done <= total, "more of the prompt than there is");
  return static_cast<Listener*>(user)->stop();
}

class Calls {
 public:
  Calls(std::span<const uint8_t> bytes, const bdh_model* shared) : bytes_(bytes), shared_(shared) {}
  ~Calls() { free_all(); }
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  void run() {
    for (bdh_session*& session : sessions_)
      expect(bdh_session_new(shared_, &session) == BDH_OK, bdh_last_error());
    while (!bytes_.empty()) call();
    free_all();
    expect(released_ == taken_, "buffers given back otherwise than once");
  }

 private:
  void free_all() {
    for (bdh_session*& session : sessions_) bdh_session_free(std::exchange(session, nullptr));
    bdh_model_free(std::exchange(model_, nullptr));
  }

  // --- what bytes choose

  unsigned byte() {
    if (bytes_.empty()) return 0;
    const unsigned first = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return first;
  }
  unsigned below(unsigned count) { return byte() % count; }
  bool seldom() { return below(16) == 15; }
  template <class Pointer>
  Pointer or_null(Pointer pointer) {
    return seldom() ? nullptr : pointer;
  }
  size_t or_wrong(size_t size) { return seldom() ? size + below(17) - 8 : size; }
  template <class Number>
  Number one_of(std::initializer_list<Number> values) {
    return *(values.begin() + below(static_cast<unsigned>(values.size())));
  }
  const bdh_model* model() { return below(2) == 0 ? or_null(model_) : or_null(shared_); }
  bdh_session*& slot() { return sessions_[below(kSlots)]; }
  bdh_session* session() { return or_null(slot()); }
  std::string text() {
    std::string text(below(12), ' ');
    for (char& c : text) c = static_cast<char>(byte());
    return text;
  }
  std::vector<int32_t> tokens() {
    std::vector<int32_t> tokens(below(6));
    for (int32_t& token : tokens) token = static_cast<int32_t>(byte());
    if (!tokens.empty() && seldom()) tokens.back() = one_of<int32_t>({-1, kVocab, INT32_MAX, INT32_MIN});
    tokens.shrink_to_fit();
    return tokens;
  }

  // --- what must hold

  bdh_status checked(bdh_status status) {
    expect((status >= BDH_OK && status <= BDH_CANCELLED) || status == BDH_BUSY,
           std::string("internal: ") + bdh_last_error());
    if (status != BDH_OK) expect(std::strlen(bdh_last_error()) > 0, "a failure without a word");
    return status;
  }

  /// A function that gives `Element`s, asked twice or with too little room.
  template <class Element, class Function>
  std::vector<Element> given(const Function& function) {
    size_t count = 0;
    if (checked(function(nullptr, 0, or_null(&count))) != BDH_OK) return {};
    const size_t room = seldom() ? count / 2 : count;
    std::vector<Element> values(room);
    size_t again = 0;
    if (checked(function(or_null(values.data()), room, &again)) == BDH_OK)
      expect(again == count, "two answers to one question");
    return values;
  }

  // --- calls

  void call() {
    switch (below(20)) {
      case 0:
        return load();
      case 1:
        return describe();
      case 2:
        return tokenize();
      case 3:
        return make_session();
      case 4:
        return clone();
      case 5:
        bdh_session_free(std::exchange(slot(), nullptr));
        return;
      case 6:
        checked(bdh_session_reset(session()));
        return;
      case 7:
        return below(2) == 0 ? set_horizon() : set_state_dtype();
      case 8:
      case 9:
      case 10:
        return read();
      case 11:
      case 12:
        return read_batch();
      case 13:
        return keep();
      case 14:
        return take_up();
      case 15:
        return sample();
      case 16:
        return use_files();
      case 17:
        return schedule();
      default:
        return generate();
    }
  }

  void load() {
    bdh_model_buffers buffers = buffers_of(files()[below(static_cast<unsigned>(files().size()))]);
    bdh_load_options options = load_options();
    if (seldom()) buffers.weights_size = below(200);
    if (seldom()) buffers.config_size = below(60);
    if (seldom()) buffers.generation_config_size = below(40);
    if (seldom()) buffers.weights = nullptr;
    if (seldom()) buffers.config = nullptr;
    buffers.size = or_wrong(buffers.size);
    options.size = or_wrong(options.size);
    options.threads = one_of<int32_t>({1, 1, 2, -1, 100000});
    options.dtype = one_of<const char*>({nullptr, "f32", "bf16", "f16", "i8"});
    options.device = one_of<const char*>({"cpu", "cpu", "gpu", ""});
    options.verify = seldom() ? 1 : 0;
    buffers.release = [](void* user) { ++*static_cast<int*>(user); };
    buffers.user = &released_;
    const bool sized = buffers.size == sizeof buffers;
    bdh_model* loaded = nullptr;
    const bool asked = !seldom();
    if (sized) ++taken_;
    const bdh_status status =
        checked(bdh_model_load_buffers(&buffers, or_null(&options), asked ? &loaded : nullptr));
    expect((status == BDH_OK) == (loaded != nullptr), "a model and a failure");
    if (status != BDH_OK) return;
    bdh_model_free(model_);
    model_ = loaded;
  }

  void describe() {
    bdh_model_info info;
    bdh_memory_info memory;
    bdh_device_info device;
    size_t devices = 0;
    const bdh_model* of = model();
    if (checked(bdh_model_get_info(of, or_null(&info), or_wrong(sizeof info))) == BDH_OK)
      expect(info.vocab_size == kVocab, "another vocabulary");
    checked(bdh_model_get_memory(of, one_of<size_t>({0, 1, 1000, SIZE_MAX}), or_null(&memory),
                                 or_wrong(sizeof memory)));
    checked(bdh_device_count(or_null(&devices)));
    checked(
        bdh_device_get_info(one_of<size_t>({0, 0, 99, SIZE_MAX}), or_null(&device), or_wrong(sizeof device)));
    given<char>([&](char* to, size_t room, size_t* count) { return bdh_model_config(of, to, room, count); });
    given<char>(
        [&](char* to, size_t room, size_t* count) { return bdh_model_metadata(of, to, room, count); });
    const char* key = one_of<const char*>({"license", "none", "", nullptr});
    given<char>([&](char* to, size_t room, size_t* count) {
      return bdh_model_metadata_value(of, key, to, room, count);
    });
    merge_adapters();
  }

  // There is no adapter: with none the model is made again.
  void merge_adapters() {
    const bdh_adapter adapter{one_of<const char*>({"/nowhere", "", nullptr}), one_of<double>({0, 1, NAN})};
    bdh_model* merged = nullptr;
    const bool asked = !one_of<bool>({false, false, true});
    const bdh_status status = checked((below(2) == 0 ? bdh_model_merge_adapters : bdh_model_apply_adapters)(
        model(), or_null(&adapter), one_of<size_t>({0, 0, 1}), asked ? &merged : nullptr));
    expect((status == BDH_OK) == (merged != nullptr), "a merged model and a failure");
    bdh_model_free(merged);
  }

  void tokenize() {
    const bdh_model* of = model();
    const std::string string = text();
    const auto encoded = given<int32_t>([&](int32_t* to, size_t room, size_t* count) {
      return bdh_tokenize(of, string.data(), string.size(), 1, to, room, count);
    });
    std::vector<int32_t> numbers = seldom() ? tokens() : encoded;
    given<char>([&](char* to, size_t room, size_t* count) {
      return bdh_detokenize(of, numbers.data(), numbers.size(), 0, to, room, count);
    });
    const int32_t token = one_of<int32_t>({65, 255, 256, -1});
    given<char>(
        [&](char* to, size_t room, size_t* count) { return bdh_token_to_piece(of, token, to, room, count); });
    size_t count = 0;
    checked(bdh_tokenize(of, nullptr, 3, 0, nullptr, 0, &count));
  }

  void make_session() {
    bdh_session*& to = slot();
    bdh_session* made = nullptr;
    if (checked(bdh_session_new(model(), seldom() ? nullptr : &made)) != BDH_OK) return;
    bdh_session_free(std::exchange(to, made));
  }

  void clone() {
    bdh_session* copy = nullptr;
    bdh_session*& to = slot();
    if (checked(bdh_session_clone(session(), seldom() ? nullptr : &copy)) != BDH_OK) return;
    bdh_session_free(std::exchange(to, copy));
  }

  void set_horizon() {
    const std::vector<float> horizon(below(3), one_of<float>({4, INFINITY, 0, -1, NAN}));
    checked(bdh_session_set_horizon(session(), or_null(horizon.data()), horizon.size()));
  }

  void set_state_dtype() {
    checked(bdh_session_set_state_dtype(session(), one_of<const char*>({"f32", "bf16", "f16", nullptr})));
  }

  int64_t position(const bdh_session* of) {
    int64_t position = -1;
    if (!of) return position;
    expect(bdh_session_get_position(of, &position) == BDH_OK && position >= 0, "no position");
    return position;
  }

  void read() {
    bdh_session* into = session();
    const std::vector<int32_t> numbers = tokens();
    const auto which = static_cast<bdh_logits>(below(4));
    std::vector<float> logits(one_of<size_t>({0, kVocab, numbers.size() * kVocab}));
    const int64_t before = position(into);
    const bdh_status status = checked(bdh_session_read(into, or_null(numbers.data()), numbers.size(), which,
                                                       or_null(logits.data()), logits.size()));
    if (status != BDH_OK) return;
    expect(position(into) >= before + std::ssize(numbers), "a read that did not read");
    for (const float logit : logits) expect(std::isfinite(logit), "logits that are none");
  }

  void read_batch() {
    std::array<std::vector<int32_t>, kSlots> numbers;
    std::array<std::vector<float>, kSlots> logits;
    std::array<bdh_read, kSlots> reads{};
    const size_t count = below(kSlots + 1);
    for (size_t i = 0; i < count; ++i) {
      numbers[i] = tokens();
      const unsigned which = below(3);
      logits[i].resize(which == 0 ? 0 : which == 1 ? kVocab : kVocab * numbers[i].size());
      reads[i] = {seldom() ? session() : sessions_[i],
                  or_null(numbers[i].data()),
                  numbers[i].size(),
                  or_null(logits[i].data()),
                  logits[i].size(),
                  static_cast<int32_t>(which),
                  0};
    }
    checked(bdh_session_read_batch(or_null(reads.data()), count, or_wrong(sizeof(bdh_read))));
  }

  void keep() {
    bdh_session* from = session();
    const std::vector<char> bytes = given<char>(
        [&](char* to, size_t room, size_t* size) { return bdh_session_save_buffer(from, to, room, size); });
    if (!bytes.empty()) kept_ = bytes;
  }

  void take_up() {
    bdh_session* into = session();
    std::vector<char> bytes = kept_;
    if (!bytes.empty() && seldom()) bytes[byte() % bytes.size()] ^= static_cast<char>(1 + below(255));
    if (seldom()) bytes.resize(bytes.size() / 2);
    bytes.shrink_to_fit();
    checked(bdh_session_restore_buffer(into, or_null(bytes.data()), bytes.size()));
  }

  void use_files() {
    bdh_model* loaded = nullptr;
    expect(checked(bdh_model_load(one_of<const char*>({"/nowhere/at/all", "/dev/null", "", nullptr}), nullptr,
                                  or_null(&loaded))) != BDH_OK,
           "a model out of nothing");
    checked(bdh_session_save(session(), one_of<const char*>({"/nowhere/at/all", "", nullptr})));
    checked(bdh_session_restore(session(), one_of<const char*>({"/nowhere/at/all", "/dev", nullptr})));
  }

  bdh_generation_options generation_options(Listener& listener) {
    bdh_generation_options options;
    expect(bdh_generation_options_defaults(model(), &options, sizeof options) == BDH_OK, "no defaults");
    const auto changed = [&] { return below(4) == 3; };
    options.max_new_tokens = static_cast<int64_t>(below(7)) - 1;
    if (changed()) options.max_length = one_of<int64_t>({0, 6, -3});
    if (changed()) options.min_new_tokens = one_of<int64_t>({2, -1, INT64_MAX});
    if (changed()) options.no_repeat_ngram_size = one_of<int64_t>({1, 2, -1, INT64_MAX});
    if (changed()) options.top_k = one_of<int64_t>({1, 0, -1, INT64_MAX});
    if (changed()) options.seed = byte();
    if (changed()) options.temperature = one_of<float>({0, 1e-30f, 100, -1, NAN, INFINITY});
    if (changed()) options.top_p = one_of<float>({0.5f, 1, 0, 2, NAN});
    if (changed()) options.min_p = one_of<float>({0.5f, 1, -1});
    if (changed()) options.typical_p = one_of<float>({0.5f, 0, 2});
    if (changed()) options.epsilon_cutoff = one_of<float>({0.1f, 1, -1});
    if (changed()) options.eta_cutoff = one_of<float>({0.1f, 1, -1});
    if (changed()) options.repetition_penalty = one_of<float>({1.5f, 0, -1, NAN});
    options.do_sample = static_cast<int32_t>(below(2));
    static constexpr std::array<const char*, 4> kStops{"a", "\xC3\xA9", "", nullptr};
    if (changed()) options.stop = kStops.data();
    if (changed()) options.stop_count = below(5);
    if (below(2) == 0) options.on_text = on_text;
    if (below(2) == 0) options.on_token = on_token;
    if (below(2) == 0) options.on_prompt = on_prompt;
    options.user = &listener;
    listener.calls_left = static_cast<int>(below(12));
    if (options.on_token && seldom()) options.max_new_tokens = INT64_MAX;
    options.size = or_wrong(options.size);
    return options;
  }

  void generate() {
    Listener listener;
    const bdh_generation_options options = generation_options(listener);
    const std::string prompt = text();
    bdh_generation_result result;
    bdh_session* into = session();
    const size_t size = or_wrong(sizeof result);
    checked(bdh_generate(into, or_null(prompt.data()), prompt.size(), seldom() ? nullptr : &options,
                         or_null(&result), size));
    position(into);
  }

  void schedule() {
    std::array<Listener, 3> listeners;  // before the scheduler, which calls them until it is freed
    bdh_scheduler_options options;
    expect(bdh_scheduler_options_defaults(&options, sizeof options) == BDH_OK,
           "bdh_scheduler_options_defaults");
    options.size = or_wrong(options.size);
    options.most_running = one_of<int64_t>({1, 2, 0});
    options.most_queued = one_of<int64_t>({0, 1, 4, -1});
    options.chunk = one_of<int64_t>({1, 3, 64, 0});
    bdh_scheduler* made = nullptr;
    checked(bdh_scheduler_new(or_null(shared_), &options, or_null(&made)));
    const std::unique_ptr<bdh_scheduler, void (*)(bdh_scheduler*)> scheduler(made, bdh_scheduler_free);
    if (!made) return;
    for (Listener& listener : listeners) {
      bdh_generation_options given = generation_options(listener);
      given.on_prompt = seldom() ? on_prompt : nullptr;
      const std::string prompt = text();
      uint64_t id = 0;
      checked(bdh_scheduler_submit(made, or_null(prompt.data()), prompt.size(),
                                   below(2) == 0 ? session() : nullptr, seldom() ? nullptr : &given,
                                   or_null(&id)));
      if (below(2) == 0) checked(bdh_scheduler_cancel(made, id));
      bdh_session* left = nullptr;
      bdh_generation_result result;
      if (below(2) == 0) checked(bdh_scheduler_wait(made, id, or_null(&result), sizeof result, &left));
      bdh_session_free(left);
    }
  }

  void sample() {
    Listener listener;
    const bdh_generation_options options = generation_options(listener);
    std::vector<float> logits(below(9));
    for (float& logit : logits) logit = static_cast<float>(byte()) / 16;
    if (!logits.empty() && seldom()) logits.back() = one_of<float>({NAN, INFINITY, -INFINITY});
    logits.shrink_to_fit();
    const std::vector<int32_t> history = tokens();
    int32_t token = -1;
    const bdh_status status = checked(bdh_sample(or_null(logits.data()), logits.size(), or_null(&options),
                                                 history.data(), history.size(), byte(), or_null(&token)));
    if (status == BDH_OK) expect(token >= 0 && token < std::ssize(logits), "a draw of nothing");
  }

  std::span<const uint8_t> bytes_;
  const bdh_model* shared_;
  int taken_ = 0, released_ = 0;  // buffers of weights; these outlive the models below
  bdh_model* model_ = nullptr;
  std::array<bdh_session*, kSlots> sessions_{};
  std::vector<char> kept_;
};

}  // namespace

bdh_model* small_model_in_c() {
  const bdh_model_buffers buffers = buffers_of(files().front());
  const bdh_load_options options = load_options();
  bdh_model* model = nullptr;
  expect(bdh_model_load_buffers(&buffers, &options, &model) == BDH_OK, bdh_last_error());
  return model;
}

void call_c_api(std::span<const uint8_t> bytes, const bdh_model* shared) { Calls(bytes, shared).run(); }

}  // namespace bdh::test
