// The text in pieces that are read at once.
#include "bdh/train/validation.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace bdh {

namespace {

constexpr int64_t kTokensOfPiece = 1024;  // between two questions whether to go on

int64_t pieces_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

}  // namespace

Validation::Validation(TokenData data, int64_t block, int64_t most_tokens, bool stream)
    : data_(std::move(data)), block_(block), stream_(stream) {
  const int64_t all = std::max<int64_t>(data_.size() - 1, 0);
  tokens_ = most_tokens > 0 ? std::min(all, most_tokens) : all;
  if (!stream_) tokens_ = std::min(pieces_of(tokens_, block_), all / block_) * block_;
  if (!stream_) sequences_ = std::max<int64_t>(kTokensOfPiece / block_, 1);
  pieces_ = pieces_of(tokens_, sequences_ * block_);
}

double Validation::text_bytes() const {
  return static_cast<double>(data_.text_bytes()) * static_cast<double>(tokens_) /
         static_cast<double>(data_.size());
}

Validation::Piece Validation::piece(int64_t number) const {
  const int64_t begin = number * sequences_ * block_, left = tokens_ - begin;
  if (stream_) return {begin, 1, std::min(block_, left)};
  return {begin, std::min(sequences_, left / block_), block_};
}

LossSum Validation::loss(Training& training, const Plane& parameters, const Piece& piece,
                         CarriedState* carried, const std::function<bool()>& stop) const {
  const int64_t count = piece.sequences * piece.tokens;
  std::vector<int32_t> tokens(static_cast<size_t>(count + 1));
  data_.copy(piece.begin, count + 1, tokens.data());
  const std::span all(tokens);
  const MicroBatch batch{.sequences = piece.sequences,
                         .tokens = piece.tokens,
                         .inputs = all.first(static_cast<size_t>(count)),
                         .targets = all.last(static_cast<size_t>(count)),
                         .stop = stop ? &stop : nullptr};
  return training.loss(parameters, batch, carried);
}

std::optional<LossSum> Validation::loss(Training& training, const Plane& parameters, Exchange& exchange,
                                        const std::function<bool(int64_t)>& go_on,
                                        const std::function<bool()>& stop) const {
  std::vector<LossSum> losses(static_cast<size_t>(pieces_));
  const auto compute = [&] {
    const std::unique_ptr<CarriedState> carried = stream_ ? training.new_carried_state(1) : nullptr;
    int64_t done = 0;
    for (int64_t i = 0; i < pieces_; ++i) {
      if (!(stream_ ? exchange.first() : exchange.has(i))) continue;
      if (!go_on(done)) return false;
      losses[static_cast<size_t>(i)] = loss(training, parameters, piece(i), carried.get(), stop);
      done += losses[static_cast<size_t>(i)].tokens;
    }
    return true;
  };
  if (!exchange.together_or_stop(compute)) return {};
  if (!stream_) exchange.share_all(losses);
  LossSum total;
  for (const LossSum& part : losses) {
    total.nats += part.nats;
    total.tokens += part.tokens;
  }
  if (stream_) exchange.share(total);
  return total;
}

}  // namespace bdh
