#!/bin/sh
# Runs the benchmarks, with PyTorch as the peer where it can be had. `make bench` calls it.
# usage: [DEVICE=cuda] [KERNEL=regex] [QUICK=1] [FULL=1] [KEEP=1] [PEERS=0] [MODEL=directory] bench/run.sh BUILD_DIRECTORY [MODEL_DIRECTORY]
set -eu

here=$(dirname "$0")
build=$1
model=${MODEL:-${2:-}}
results=$build/bench/results.json

mkdir -p "$build/bench"
set -- --device "${DEVICE:-auto}" --json "$results" --chart "$build/bench" --scratch "$build/bench"
[ -z "$model" ] || set -- "$@" --model "$model"
[ -z "${KERNEL:-}" ] || set -- "$@" --kernel "$KERNEL"
[ -z "${QUICK:-}" ] || set -- "$@" --quick
[ -z "${FULL:-}" ] || set -- "$@" --full
if [ "${PEERS:-1}" = 0 ]; then
  set -- "$@" --no-peers
elif python=$("$here/../tools/setup/python.sh"); then
  set -- "$@" --python "$python" --peer "$here/pytorch.py"
else
  echo "bench: no PyTorch, so its columns are missing" >&2
  set -- "$@" --no-peers
fi
"$build/bdh-bench" "$@"
echo "written: $results, and in $build/bench bars.svg, headline.svg and roofline.svg"
[ -n "${KEEP:-}" ] || exit 0
name=$(sed -n 's/^ "device": "\(.*\)",$/\1/p' "$results" | tr -c 'A-Za-z0-9\n' '-' | tr -s '-')
kept=$here/results/$(date -u +%Y-%m-%d)-$name.json
cp "$results" "$kept"
cp "$build/bench/bars.svg" "${kept%.json}.svg"
cp "$build/bench/headline.svg" "${kept%.json}-headline.svg"
echo "kept: $kept"
