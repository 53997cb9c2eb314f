// CarriedStates: what the sequences of each micro-batch remember from one step to the next.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bdh/base/tensor.h"
#include "bdh/train/exchange.h"
#include "kernels/training.h"

namespace bdh {

/// One for each of this rank's micro-batches, [share.begin, share.end) of a step's. A step that is
/// interrupted can be taken back.
class CarriedStates {
 public:
  CarriedStates(Training& training, Exchange::Share share, int64_t sequences);

  /// The state to read from and to move on. Where the text does not continue it begins anew.
  CarriedState* begin(int64_t micro_batch, bool continues);
  /// The step is whole.
  void keep();
  /// Takes back what was done since the last keep().
  void roll_back();

  int64_t position() const { return entries_.front().state->position(); }
  std::vector<Tensor> save() const;
  /// From "0", "1", .. by micro-batch. Throws Error(bad_file) for one that is missing or has another shape.
  void restore(const TensorMap& saved, int64_t position);

 private:
  struct Entry {
    std::unique_ptr<CarriedState> state;
    bool touched = false;
    Tensor before;  // of a touched one that remembered something
    int64_t position_before = 0;
  };

  Exchange::Share share_;
  std::vector<Entry> entries_;
};

}  // namespace bdh
