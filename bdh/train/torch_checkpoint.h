// Training checkpoints of PyTorch: a model's state_dict and that of its AdamW in one .pt file. Read, so that
// a run begun in Python goes on here, and written, so that it goes on there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/train/checkpoint.h"

namespace bdh {

/// What an optimizer's param_groups say.
struct TorchOptimizer {
  double rate = 1e-3;  // of the last step
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.01;         // of all parameters but those in no_decay
  std::vector<std::string> no_decay;  // their names
};

struct TorchCheckpoint {
  Checkpoint checkpoint;
  TorchOptimizer optimizer;
  std::vector<std::string> warnings;
};

/// Whether a file to resume from is PyTorch's, by its ending: anything but .safetensors.
bool is_torch_checkpoint(const std::filesystem::path& file);

/// Reads {'model': state_dict, 'optimizer': AdamW.state_dict(), ...} under the keys that training scripts
/// use, the model in any dialect that import_model reads, as float32. config: the model's config.json, by
/// default the one in the checkpoint or beside it. Moments belong to parameters by param_names, by names for
/// ids, or by order: that of the state_dict, in which one assignment alone may have the right shapes.
/// RunState: `step` and `optimizer_step` are the optimizer's count of updates; `epoch`, the config, a
/// GradScaler's scale, an average under 'ema'. Hashes are empty: nothing is known of the data.
/// Throws Error(not_found), Error(bad_file) for contradictions and for what more than one assignment fits,
/// Error(unsupported) for other optimizers and models, and where this build reads no PyTorch files.
TorchCheckpoint read_torch_checkpoint(const std::filesystem::path& file,
                                      const std::filesystem::path& config = {});

/// Writes {'model', 'optimizer', 'step', 'epoch', 'config'} and, where there are, 'ema', 'ema_step' and
/// 'scaler': torch.load(weights_only=True) reads it, torch.optim.AdamW.load_state_dict takes 'optimizer'. The
/// parameters without weight decay are a second group; param_names says which are which. Atomic. Throws
/// Error(invalid_argument) for a checkpoint without config, for names that are no parameters and for moments
/// that are not complete; Error(io), Error(unsupported) where this build writes no PyTorch files.
void write_torch_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint,
                            const TorchOptimizer& optimizer);

}  // namespace bdh
