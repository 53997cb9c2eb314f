// The table of dialects, and the few ways in which they differ from the reference.
#include "bdh/pretrained/dialects/dialects.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/model/frequencies.h"
#include "bdh/pretrained/dialects/rearrange.h"

namespace bdh {
namespace {

constexpr double kUsualBase = 10000;  // of rotations in halves

void rename(TensorMap& tensors, const std::string& from, const std::string& to) {
  auto node = tensors.extract(from);
  if (node.empty()) return;
  node.key() = to;
  tensors.insert(std::move(node));
}

int64_t layers_of(const TensorMap& tensors, const std::string& before, const std::string& after) {
  int64_t layers = 0;
  while (tensors.contains(concat(before, layers, after))) ++layers;
  return layers;
}

/// BEFORE i AFTER becomes TO.i, for every layer.
void rename_layers(TensorMap& tensors, const std::string& before, const std::string& after,
                   const std::string& to) {
  const int64_t layers = layers_of(tensors, before, after);
  for (int64_t i = 0; i < layers; ++i) rename(tensors, concat(before, i, after), concat(to, ".", i));
}

void require(const Translation& model, const std::string& name, bool right, std::string_view wanted) {
  if (right) return;
  fail(ErrorKind::bad_file, model.source, ": tensor '", name, "' has shape ",
       to_string(model.tensors.at(name).shape), ", not ", wanted, "; the model is not what its names say");
}

// ---- the ways ----

void as_it_is(Translation&) {}

/// A Linear's weight (V, D) is the head's transpose.
void turn_head(Translation& model) {
  const auto found = model.tensors.find("lm_head.weight");
  if (found == model.tensors.end()) return;
  require(model, "lm_head.weight", found->second.shape.size() == 2, "(V, D)");
  model.tensors.insert_or_assign("lm_head", transposed(found->second));
  model.tensors.erase(found);
}

/// Whether the head is the embedding's transpose, where the config says nothing: `otherwise`.
bool is_tied(const Translation& model, bool otherwise) {
  const Json* tie = model.config.find("tie_word_embeddings");
  return tie && tie->is_bool() ? tie->as_bool() : otherwise;
}

void tie_head(Translation& model) {
  const auto embed = model.tensors.find("embed.weight");
  if (embed == model.tensors.end()) return;
  require(model, "embed.weight", embed->second.shape.size() == 2, "(V, D)");
  model.tensors.insert_or_assign("lm_head", transposed(embed->second));
}

void head_as_said(Translation& model) {
  turn_head(model);
  if (is_tied(model, false)) tie_head(model);
}

/// transformers ties the head unless config.json says otherwise, and leaves a tied one out.
void transformers_head(Translation& model) {
  turn_head(model);
  if (!model.tensors.contains("lm_head") && is_tied(model, true)) tie_head(model);
}

void underscores(Translation& model) {
  rename(model.tensors, "embed_weight", "embed.weight");
  rename(model.tensors, "attn_freqs", "attn.freqs");
}

/// y (1 + rho) before the decoder is rho in the decoder's rows. rho: (L, H, N).
void fold_rho(Translation& model) {
  rename_layers(model.tensors, "encoders.", "", "encoder");
  rename_layers(model.tensors, "encoders_v.", "", "encoder_v");
  rename_layers(model.tensors, "decoders.", "", "decoder");
  auto rho = model.tensors.extract("rho");
  const int64_t layers = layers_of(model.tensors, "decoder.", "");
  if (rho.empty() || layers == 0) return;
  std::vector<float> factors = values_of(rho.mapped());
  for (float& factor : factors) factor += 1;
  for (int64_t i = 0; i < layers; ++i) {
    Tensor& decoder = model.tensors.at(concat("decoder.", i));
    const bool fits =
        decoder.shape.size() == 2 && static_cast<int64_t>(factors.size()) == layers * decoder.shape[0];
    if (!fits) {
      fail(ErrorKind::bad_file, model.source, ": tensor 'rho' has shape ", to_string(rho.mapped().shape),
           ", which does not fit its ", layers, " decoders; the model is not what its names say");
    }
    const auto first = factors.begin() + i * decoder.shape[0];
    decoder = scaled(decoder, {first, first + decoder.shape[0]}, decoder.shape[1]);
  }
}

void modules_of_layers(Translation& model) {
  for (const char* part : {"encoder_v", "encoder", "decoder"})
    rename_layers(model.tensors, "layers.", concat(".", part), part);
}

void require_setting(const Translation& model, std::string_view key) {
  if (model.config.find(key)) return;
  fail(ErrorKind::unsupported, model.source, ": its config does not say ", key,
       ", which is on by default in Hohnik/baby_dragon_hatchling and makes the model another function");
}

/// Scores that are scaled by N^-1/2 are those of neurons scaled by N^-1/4, which the decoder takes back.
void fold_scale(Translation& model) {
  modules_of_layers(model);
  const int64_t layers = layers_of(model.tensors, "encoder.", "");
  for (int64_t i = 0; i < layers; ++i) {
    Tensor& encoder = model.tensors.at(concat("encoder.", i));
    const auto decoder = model.tensors.find(concat("decoder.", i));
    require(model, concat("encoder.", i), encoder.shape.size() == 3, "(H, D, N)");
    const float scale = std::pow(static_cast<float>(encoder.shape[2]), -0.25f);
    if (decoder != model.tensors.end())
      decoder->second = scaled(decoder->second, {1 / scale}, decoder->second.numel());
    encoder = scaled(encoder, {scale}, encoder.numel());
  }
}

void fold_scale_with_options_off(Translation& model) {
  for (const char* key : {"diff_attn", "attn_window", "forget_mode", "per_head_v"})
    require_setting(model, key);
  fold_scale(model);
}

void paper_names(Translation& model) {
  rename(model.tensors, "encoder", "decoder");
  rename(model.tensors, "decoder_x", "encoder");
  rename(model.tensors, "decoder_y", "encoder_v");
  rename(model.tensors, "wte.weight", "embed.weight");
  rename(model.tensors, "readout", "lm_head");
}

/// Rotation of neurons i and i + N/2 by base 10000 is the reference's after the neurons have changed places.
void pair_halves(Translation& model) {
  paper_names(model);
  Tensor& encoder = model.tensors.at("encoder");
  require(model, "encoder", encoder.shape.size() == 3 && encoder.shape[2] % 2 == 0, "(H, D, N) of even N");
  const int64_t heads = encoder.shape[0], neurons = encoder.shape[2];
  Tensor& decoder = model.tensors.at("decoder");
  require(model, "decoder", decoder.shape.size() == 2 && decoder.shape[0] == heads * neurons, "(H*N, D)");
  Tensor& encoder_v = model.tensors.at("encoder_v");
  require(model, "encoder_v", encoder_v.shape == encoder.shape, "that of decoder_x");
  encoder = paired_halves(encoder, 2, 1);
  encoder_v = paired_halves(encoder_v, 2, 1);
  decoder = paired_halves(decoder, 0, heads);
  model.tensors.insert_or_assign("attn.freqs",
                                 tensor_of(rotation_frequencies(neurons, kUsualBase), {1, 1, 1, neurons}));
}

// ---- the table ----

constexpr std::array kDialects{
    Dialect{"masked paper names", "maciejkwas/BDH_GPU", "mask_encoder mask_decoder_x decoder_x",
            "its attention is a softmax of scaled scores, averaged over heads", as_it_is},
    Dialect{"paper letters", "krychu/bdh", "E Dx Dy emb.weight",
            "its attention has no causal mask, so that a token depends on later ones", as_it_is},
    Dialect{"learned norm", "TechieSamosa/Baby-Dragon-Hatchling", "encoder encoder_v decoder ln.weight",
            "its attention is a softmax without rotation, and its norm has learned weights", as_it_is},
    Dialect{"paper names with frequencies", "sgabriel92/bdh",
            "encoder decoder_x decoder_y readout attn.freqs",
            "its residual sum is normalised once, after the last layer", as_it_is},
    Dialect{"paper names with inverse frequencies", "yogeshHax/Bid_Dragon_hatchling",
            "encoder decoder_x decoder_y readout attn.rope.inv_freq",
            "its attention compares x, not the neurons, and a token reads itself", as_it_is},
    Dialect{"gated attention", "asb-42/bdh (bdh-prime)", "encoder encoder_v decoder attn.wf attn.wi",
            "its state has forget and input gates, and its logits are the mean of all layers'", as_it_is},
    Dialect{"paper letters with states", "bartman081523/bdh (bdh_paper)", "core.E core.Dx core.Dy",
            "its neurons keep decaying states of their own", as_it_is},
    Dialect{"paper names, rotation in halves", "kubotadaichi/dragon-hatchling",
            "encoder decoder_x decoder_y wte.weight readout", "", pair_halves,
            "read as kubotadaichi/dragon-hatchling saves it, whose rotation has base 10000 and pairs the "
            "halves of a "
            "head; the file does not say this, and other code gives the same names to another rotation"},
    Dialect{"lists of layers with rho", "gh-arnab21/BDH_interpretability",
            "encoders.0 encoders_v.0 decoders.0", "", fold_rho},
    Dialect{"layers with options", "Hohnik/baby_dragon_hatchling", "layers.0.encoder attn._freq_cplx", "",
            fold_scale_with_options_off},
    Dialect{"layers with scaled scores", "Hohnik/baby_dragon_hatchling", "layers.0.encoder attn._cos_cached",
            "", fold_scale},
    Dialect{"layers as modules", "", "layers.0.encoder layers.0.encoder_v layers.0.decoder", "",
            modules_of_layers},
    Dialect{"weights of each layer", "aomukai/BDH_OS", "encoder.0 encoder_v.0 decoder.0", "", head_as_said},
    Dialect{"names with underscores", "severian42/BDH-MLX", "encoder encoder_v decoder embed_weight", "",
            underscores},
    Dialect{"reference", "pathwaycom/bdh", "encoder encoder_v decoder", "", head_as_said},
};

// Of transformers: the reference's names below `backbone.`.
constexpr Dialect kTransformers{"transformers", "jploski/bdh-transformers", "encoder encoder_v decoder", "",
                                transformers_head};

struct Stranger {
  std::string_view part;  // of the name
  std::string_view meaning;
};

constexpr std::array kStrangers{
    Stranger{"lora_", "adapters (LoRA) that are not merged into the weights"},
    Stranger{"pos_emb", "embeddings of positions"},
    Stranger{"position_emb", "embeddings of positions"},
    Stranger{".wpe.", "embeddings of positions"},
    Stranger{"alibi", "scores damped by distance"},
    Stranger{"attention_decay", "scores damped by distance"},
    Stranger{"activation_history", "neurons mixed with those of earlier tokens"},
    Stranger{"decoder_fast", "fast weights, written while it reads"},
    Stranger{"fast_weight", "fast weights, written while it reads"},
    Stranger{".ln.weight", "a norm with learned weights"},
    Stranger{".ln.bias", "a norm with learned weights"},
    Stranger{".ln_f.", "a norm with learned weights"},
    Stranger{"lm_head.bias", "a head with a bias"},
    Stranger{"mask_", "masks over its weights"},
    Stranger{".rho", "neurons weighed by a memory of earlier training"},
    Stranger{"expert", "experts that tokens are routed to"},
    Stranger{"patch_embed", "patches of pictures as its input"},
};

// Ends of names.
constexpr std::array<std::string_view, 7> kInert{
    "_cos_cached", "_sin_cached", "_freq_cplx", "lm_gate", "rotary_emb.inv_freq", "step", "loss"};

bool holds(const std::set<std::string>& held, std::string_view names) {
  while (!names.empty()) {
    const size_t end = std::min(names.find(' '), names.size());
    if (!held.contains(std::string(names.substr(0, end)))) return false;
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return true;
}

}  // namespace

std::span<const Dialect> dialects() { return kDialects; }

const Dialect* dialect_of(const Translation& model) {
  const auto found = std::find_if(kDialects.begin(), kDialects.end(),
                                  [&](const Dialect& dialect) { return holds(model.names, dialect.tells); });
  if (found == kDialects.end()) return nullptr;
  const bool reference = &*found == &kDialects.back();
  return reference && model.prefixes.contains("backbone.") ? &kTransformers : &*found;
}

std::string_view meaning_of_stranger(std::string_view name) {
  const std::string dotted = concat(".", name);
  const auto found = std::find_if(kStrangers.begin(), kStrangers.end(), [&](const Stranger& stranger) {
    return dotted.find(stranger.part) != dotted.npos;
  });
  return found == kStrangers.end() ? "" : found->meaning;
}

bool is_inert(std::string_view name) {
  constexpr std::string_view kOfTraining[] = {"exp_avg.", "exp_avg_sq.", "ema.", "carried."};
  if (std::any_of(std::begin(kOfTraining), std::end(kOfTraining),
                  [&](std::string_view start) { return name.starts_with(start); }))
    return true;
  if (name.starts_with("layer.")) return true;  // the shared layer once more: Hohnik's first version
  if (name.starts_with("layers.") && name.ends_with(".attn.freqs")) return true;
  return std::any_of(kInert.begin(), kInert.end(), [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace bdh
