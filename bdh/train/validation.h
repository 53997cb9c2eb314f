// Validation: the loss over a text that is not trained on.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "bdh/train/exchange.h"
#include "bdh/train/token_data.h"
#include "kernels/training.h"

namespace bdh {

/// The text in independent blocks, as `bdh eval --block` has it, each batch of them by one of the ranks; or
/// as one stream with the state carried over, by rank 0. Without dropout. Sums have one order, whatever the
/// number of ranks.
class Validation {
 public:
  /// most_tokens: predicted, at most; 0: all.
  Validation(TokenData data, int64_t block, int64_t most_tokens, bool stream);

  bool empty() const { return tokens_ == 0; }
  /// Predicted.
  int64_t tokens() const { return tokens_; }
  /// Bytes of text that these stand for; 0: not known.
  double text_bytes() const;

  /// Nothing where go_on, told the tokens that this rank has done, was false on any rank, or stop, which is
  /// asked more often, true.
  std::optional<LossSum> loss(Training& training, const Plane& parameters, Exchange& exchange,
                              const std::function<bool(int64_t done)>& go_on,
                              const std::function<bool()>& stop = {}) const;

 private:
  struct Piece {
    int64_t begin, sequences, tokens;  // sequences of so many tokens each, one after the other
  };
  Piece piece(int64_t number) const;
  LossSum loss(Training& training, const Plane& parameters, const Piece& piece, CarriedState* carried,
               const std::function<bool()>& stop) const;

  TokenData data_;
  int64_t block_;
  bool stream_;
  int64_t tokens_ = 0;
  int64_t sequences_ = 1;  // of a piece
  int64_t pieces_ = 0;
};

}  // namespace bdh
