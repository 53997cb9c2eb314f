#!/usr/bin/env bash
# Every comparison of this folder, as many at once as there are cores: run.sh PYTHON BUILD DEMO TEXTS. Prints what each said when it
# has ended, and how long it took; exit code 1 when one found a difference.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 build=$2 demo=$3 texts=$4
cores=$(nproc)  # before OMP_NUM_THREADS, which nproc heeds
export PYTHONDONTWRITEBYTECODE=1 RUST_BACKTRACE=0 OMP_NUM_THREADS=1  # PyTorch on one thread each
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The longest first.
checks=(
  "huggingface --bdh $build/bdh --build $build --demo $demo"
  "logits --bdh $build/bdh --demo $demo"
  "export --bdh $build/bdh --demo $demo"
  "tokenizer --bdh $build/bdh --count $texts"
  "training --bdh $build/bdh"
  "generation --bdh $build/bdh"
  "pretrained --bdh $build/bdh"
  "ranks --bdh $build/bdh"
  "token_files --bdh $build/bdh"
  "dialects --bdh $build/bdh"
  "checkpoint_kinds --tests $build/bdh_tests"
  "training_files --bdh $build/bdh --tests $build/bdh_tests"
  "adapter --bdh $build/bdh"
  "lora_training --bdh $build/bdh"
  "quantization --bdh $build/bdh"
  "packed --bdh $build/bdh"
  "safetensors --tests $build/bdh_tests"
  "torch --tests $build/bdh_tests"
  "torch_checkpoint --tests $build/bdh_tests --bdh $build/bdh"
  "regex --tests $build/bdh_tests"
  "serve --bdh $build/bdh"
  "replicas --bdh $build/bdh"
  "sampling"
)

# check NAME OPTIONS...
check() {
  local name=$1 began=$SECONDS
  shift
  if "$python" "tests/parity/${name}_parity.py" check "$@" >"$logs/$name" 2>&1; then
    touch "$logs/$name.ok"
  fi
  { cat "$logs/$name"; printf '%s: %d s\n\n' "$name" $((SECONDS - began)); } >"$logs/$name.said"
  cat "$logs/$name.said"
}

began=$SECONDS
for line in "${checks[@]}"; do
  while [ "$(jobs -pr | wc -l)" -ge "$cores" ]; do wait -n || true; done
  read -ra words <<<"$line"
  check "${words[@]}" &
done
wait

failed=""
for line in "${checks[@]}"; do
  [ -e "$logs/${line%% *}.ok" ] || failed+=" ${line%% *}"
done
printf 'parity: %d comparisons in %d s%s\n' "${#checks[@]}" $((SECONDS - began)) "${failed:+; FAILED:$failed}"
[ -z "$failed" ]
