// Decoders: the texts of tokens put together again, as a stream.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {

/// One step of decoding while it runs: takes texts of tokens in order, and hands on what has become certain.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void push(std::string_view text) = 0;
  virtual void finish() { next->finish(); }
  DecodeStep* next = nullptr;
};

using DecodeSteps = std::vector<std::unique_ptr<DecodeStep>>;

/// A decoder of tokenizer.json. Immutable: any number of threads may share it.
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::unique_ptr<DecodeStep> step() const = 0;
  /// The step where texts that arrive are parts of a single one; nullptr when it has to wait for the whole.
  virtual std::unique_ptr<DecodeStep> step_in_parts() const { return nullptr; }
  /// What it hands on are parts of a single text.
  virtual bool joins() const { return false; }
};

using Decoders = std::vector<std::unique_ptr<const Decoder>>;

/// Appends the decoder, or those of a Sequence. Throws Error(bad_file), Error(unsupported).
void read_decoder(const Fields& fields, Decoders& decoders);

/// Texts of tokens in, text out.
class DecodePipeline {
 public:
  /// Without decoders, texts are put together with spaces between.
  explicit DecodePipeline(const Decoders& decoders);
  DecodePipeline(const DecodePipeline&) = delete;
  DecodePipeline& operator=(const DecodePipeline&) = delete;

  void push(std::string_view text) { steps_.front()->push(text); }
  void finish() { steps_.front()->finish(); }
  /// What came out since the last call.
  std::string take();

 private:
  std::string out_;
  DecodeSteps steps_;
};

}  // namespace bdh::tokenizers
