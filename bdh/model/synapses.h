// The strongest entries of S, and the tokens that they came from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/saved_state.h"

namespace bdh {

/// What a token left in an entry of S: r x, weighed by its distance.
struct SynapseSource {
  int64_t position;
  float value;
};

/// S[layer][head][neuron][dimension]: how a neuron, when it fires, moves a (eq. 8 of arXiv 2509.26507).
struct Synapse {
  int64_t layer, head, neuron, dimension;
  float value;
  std::vector<SynapseSource> sources;  // the strongest first
};

/// The `count` entries that are largest without their sign, the largest first, each with at most `sources`
/// tokens. `saved` holds all its tokens, as KeptForm::tokens has it; horizons: for each head, or none.
std::vector<Synapse> strongest_synapses(const SavedState& saved, const Dimensions& dims,
                                        std::span<const float> horizons, size_t count, size_t sources);

}  // namespace bdh
