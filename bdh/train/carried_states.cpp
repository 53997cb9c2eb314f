// States of micro-batches, and copies of those that a step has moved on.
#include "bdh/train/carried_states.h"

#include "bdh/base/error.h"

namespace bdh {

CarriedStates::CarriedStates(Training& training, Exchange::Share share, int64_t sequences) : share_(share) {
  entries_.resize(static_cast<size_t>(share.end - share.begin));
  for (Entry& entry : entries_) entry.state = training.new_carried_state(sequences);
}

CarriedState* CarriedStates::begin(int64_t micro_batch, bool continues) {
  Entry& entry = entries_.at(static_cast<size_t>(micro_batch - share_.begin));
  entry.touched = true;
  entry.position_before = entry.state->position();
  if (entry.position_before > 0) entry.before = entry.state->save();
  if (!continues) entry.state->reset();
  return entry.state.get();
}

void CarriedStates::keep() {
  for (Entry& entry : entries_) {
    entry.touched = false;
    entry.before = {};
  }
}

void CarriedStates::roll_back() {
  for (Entry& entry : entries_) {
    if (!entry.touched) continue;
    if (entry.position_before == 0) entry.state->reset();
    if (entry.before.data) entry.state->restore(entry.before, entry.position_before);
  }
  keep();
}

std::vector<Tensor> CarriedStates::save() const {
  std::vector<Tensor> saved;
  for (const Entry& entry : entries_) saved.push_back(entry.state->save());
  return saved;
}

void CarriedStates::restore(const TensorMap& saved, int64_t position) {
  if (position < 0) fail(ErrorKind::bad_file, "the checkpoint's carried states have no position");
  for (int64_t i = share_.begin; i < share_.end; ++i) {
    const auto found = saved.find(std::to_string(i));
    if (found == saved.end())
      fail(ErrorKind::bad_file, "the checkpoint has no carried state of micro-batch ", i);
    entries_[static_cast<size_t>(i - share_.begin)].state->restore(found->second, position);
  }
}

}  // namespace bdh
