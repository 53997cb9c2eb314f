// The CPU's decode of many sequences at once: each has the bits that it has alone.
#include <doctest/doctest.h>

#include <algorithm>

#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

using Types = std::vector<DType>;

std::vector<int32_t> text_of(size_t sequence, const Config& config) {
  std::vector<int32_t> tokens = some_tokens(40, config.vocab_size);
  std::rotate(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(sequence % tokens.size()),
              tokens.end());
  return tokens;
}

// Logits of `steps` tokens of each sequence, whose texts begin at different lengths.
std::vector<std::vector<float>> decoded(const WeightsPointer& weights, const std::vector<size_t>& sequences,
                                        size_t steps) {
  const auto vocab = static_cast<size_t>(weights->config().vocab_size);
  std::vector<Session> sessions;
  std::vector<Session*> all;
  std::vector<std::vector<int32_t>> texts;
  std::vector<std::vector<float>> logits(sequences.size());
  for (const size_t sequence : sequences) {
    texts.push_back(text_of(sequence, weights->config()));
    sessions.emplace_back(weights).read(std::span(texts.back()).first(1 + sequence),
                                        in_form(Form::recurrent));
  }
  for (Session& session : sessions) all.push_back(&session);
  for (size_t step = 0; step < steps; ++step) {
    std::vector<std::span<const int32_t>> tokens;
    for (size_t i = 0; i < texts.size(); ++i)
      tokens.emplace_back(std::span(texts[i]).subspan(1 + sequences[i] + step, 1));
    const std::vector<float> rows = read_batch(all, tokens, in_form(Form::recurrent));
    for (size_t i = 0; i < texts.size(); ++i)
      append(logits[i], {rows.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                         rows.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab)});
  }
  return logits;
}

}  // namespace

TEST_CASE("decode of many sequences: each has the bits that it has alone, on any number of threads") {
  // Widths of which 16 and some fit together; neurons of more than one tile, and of an odd tail.
  const Config configs[] = {config_of(2, 48, 3, 40, 77), config_of(2, 256, 2, 5, 40),
                            config_of(1, 1040, 1, 1, 30), config_of(1, 7, 1, 2, 5)};
  constexpr size_t kSteps = 2, kMost = 19;
  for (const Config& config : configs) {
    for (DType dtype : unless_slow(Types{DType::f32, DType::bf16, DType::f16}, Types{DType::bf16})) {
      CAPTURE(config.n_embd);
      CAPTURE(dtype);
      const WeightsPointer weights = random_weights(config, backend(2), dtype);
      std::vector<std::vector<float>> alone;
      std::vector<size_t> sequences;
      for (size_t i = 0; i < kMost; ++i) {
        sequences.push_back(i);
        alone.push_back(decoded(weights, {i}, kSteps).front());
      }
      for (size_t count : {2, 16, 19}) {
        const std::vector<size_t> some(sequences.begin(),
                                       sequences.begin() + static_cast<std::ptrdiff_t>(count));
        const auto together = decoded(weights, some, kSteps);
        for (size_t i = 0; i < count; ++i) CHECK(together[i] == alone[i]);
      }
      CHECK(decoded(random_weights(config, backend(1), dtype), sequences, kSteps) == alone);
    }
  }
}
