// The names of the files in a model directory.
#pragma once

#include <array>
#include <string_view>

namespace bdh {

inline constexpr const char* kConfigFile = "config.json";
inline constexpr const char* kMetadataFile = "metadata.json";
inline constexpr const char* kGenerationFile = "generation_config.json";
inline constexpr const char* kTrainingArgsFile = "training_args.json";
inline constexpr const char* kTrainingMetadataFile = "training_metadata.json";
inline constexpr const char* kTrainingPictureFile = "training.svg";
inline constexpr const char* kCardFile = "README.md";

inline constexpr const char* kSafetensorsFile = "model.safetensors";
inline constexpr const char* kSafetensorsIndex = "model.safetensors.index.json";
inline constexpr const char* kTorchFile = "model.pt";
inline constexpr const char* kTorchBinFile = "pytorch_model.bin";
inline constexpr const char* kTorchBinIndex = "pytorch_model.bin.index.json";

/// What training measured, kept byte for byte.
inline constexpr std::array kTrainingFiles{kTrainingMetadataFile, kTrainingPictureFile};

/// Kept byte for byte; tokenizer.json makes the tokenizer, the next four add to it, the others are those of
/// tokenizers that bdh does not read.
inline constexpr std::array kTokenizerFiles{"tokenizer.json",
                                            "tokenizer_config.json",
                                            "special_tokens_map.json",
                                            "added_tokens.json",
                                            "chat_template.jinja",
                                            "tokenizer.model",
                                            "spiece.model",
                                            "vocab.json",
                                            "merges.txt",
                                            "vocab.txt",
                                            "meta.pkl",
                                            "tokenizer.pkl"};
inline constexpr std::array kForeignTokenizerFiles{
    "tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt", "meta.pkl", "tokenizer.pkl"};

/// Files that hold or list weights: the five above and shards as model-00001-of-00002.safetensors.
bool is_weights_file(std::string_view name);

/// Files that belong to one model and to no other: weights, config.json, tokenizer, JSON beside them, the
/// picture of its training. Not the card, nor anything a user adds.
bool is_model_file(std::string_view name);

}  // namespace bdh
