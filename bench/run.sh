#!/bin/sh
# Runs the benchmarks, with PyTorch as the peer where it can be had. `make bench` calls it.
# usage: [FILTER=regex] [QUICK=1] [FULL=1] [KEEP=1] [PEERS=0] bench/run.sh BUILD_DIRECTORY [MODEL_DIRECTORY]
set -eu

here=$(dirname "$0")
build=$1
model=${2:-}

set -- --out "$build/bench"
[ -z "$model" ] || set -- "$@" --model "$model"
[ -z "${FILTER:-}" ] || set -- "$@" --filter "$FILTER"
[ -z "${QUICK:-}" ] || set -- "$@" --quick
[ -z "${FULL:-}" ] || set -- "$@" --full
[ -z "${KEEP:-}" ] || set -- "$@" --keep "$here/results"
if [ "${PEERS:-1}" != 0 ]; then
  if python=$("$here/../tools/setup/python.sh"); then
    set -- "$@" --python "$python" --peer "$here/pytorch.py"
  else
    echo "bench: no PyTorch, so its columns are missing" >&2
  fi
fi
exec "$build/bdh_bench" "$@"
