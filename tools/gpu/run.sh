#!/bin/sh
# Everything that needs a GPU, in under 8 minutes: tests, the bdh command on GPU and CPU, the sanitizers, the bench.
# Writes bench/results: the raw figures and, when every step passed, gpu_verified.json. README.md beside this file.
# usage: run.sh [MODEL]     GPU_BUILD=FOLDER: binaries that build.sh made; RESULTS, OUT: where results go
set -u
cd "$(dirname "$0")/../.." || exit 1

model=${1:-tools/examples/shakespeare-small}
results=${RESULTS:-bench/results}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export LC_ALL=C

stop() { printf 'make gpu: %s\n' "$1" >&2; exit 1; }

# --- the GPU, the binaries and the kernels in them

device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$device" ] || stop "there is no GPU on this machine that nvidia-smi finds; nothing was checked"
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')

started=$(date +%s)
build=${GPU_BUILD:-}
if [ -z "$build" ]; then
  build="build-gpu"
  [ "$capability" = 90 ] && capability=90a
  tools/gpu/build.sh "$build" "$capability" || stop "the build failed; its reason stands above"
fi
[ -x "$build/bdh" ] && [ -x "$build/bdh-bench" ] && [ -x "$build/bdh_gpu_tests" ] ||
  stop "$build does not hold bdh, bdh-bench and bdh_gpu_tests; make it with: make gpu-build"

tree=$(cat "$build/tree" 2>/dev/null)
[ -n "$tree" ] || stop "$build/tree is missing: which kernels are in $build? commit kernels/cuda, then: make gpu-build"
if git rev-parse --verify -q HEAD >/dev/null 2>&1; then
  here=$(tools/gpu/tree.sh) || exit 1
  [ "$here" = "$tree" ] || stop "$build was made from other kernels ($tree) than those here ($here); make gpu-build"
fi

# --- steps: every one runs, whatever became of the others

passed=0
failed=0
summary=$logs/summary
: >"$summary"

# step NAME SECONDS COMMAND...: runs it for so long at most.
step() {
  name=$1
  limit=$2
  shift 2
  printf '\n=== %s\n' "$name"
  begin=$(date +%s)
  # Without --foreground the whole group of processes ends with the time.
  timeout -k 5 "$limit" "$@" >"$logs/step" 2>&1
  code=$?
  seconds=$(($(date +%s) - begin))
  tail -n 25 "$logs/step"
  { printf '\n=== %s\n' "$name"; cat "$logs/step"; } >>"$logs/log.txt"
  if [ "$code" = 0 ]; then
    passed=$((passed + 1))
    verdict=passed
  else
    failed=$((failed + 1))
    verdict=FAILED
    [ "$code" = 124 ] && verdict="FAILED: not done after $limit s"
  fi
  printf '%5d s  %-32s %s\n' "$seconds" "$name" "$verdict" >>"$summary"
  printf '{"name": "%s", "seconds": %d, "passed": %s}\n' "$name" "$seconds" \
    "$([ "$code" = 0 ] && echo true || echo false)" >>"$logs/steps"
}

# The same text from GPU and CPU.
# shellcheck disable=SC2016
same='bdh=$1; shift
"$bdh" "$@" --device cuda >"$0.cuda" && "$bdh" "$@" --device cpu >"$0.cpu" && [ -s "$0.cpu" ] &&
  cmp "$0.cuda" "$0.cpu" && echo "the same $(wc -c <"$0.cpu") bytes"'

# The same nats per token from GPU and CPU, to the given share.
# shellcheck disable=SC2016
near='bdh=$1; share=$2; shift 2
nats() { "$bdh" eval "$@" --json | sed -n "s/.*\"nats_per_token\": *\([0-9.e+-]*\).*/\1/p"; }
cuda=$(nats "$@" --device cuda) && cpu=$(nats "$@" --device cpu) && echo "GPU $cuda, CPU $cpu nats per token" &&
  awk -v a="$cuda" -v b="$cpu" -v s="$share" "BEGIN { d = a - b; exit !(b > 0 && d <= s * b && -d <= s * b) }"'

step "tests" 200 "$build/bdh_gpu_tests"
step "500 greedy tokens as on the CPU" 60 sh -c "$same" "$logs/text" \
  "$build/bdh" generate "$model" --prompt ROMEO: --greedy -n 500 --dtype f32
for form in parallel chunked recurrent; do
  step "eval as on the CPU, $form" 40 sh -c "$near" "$logs/eval" \
    "$build/bdh" 1e-4 "$model" --text README.md --dtype f32 --form "$form" --limit 4097 --block 512
done
step "eval as on the CPU, bfloat16" 40 sh -c "$near" "$logs/eval" \
  "$build/bdh" 1e-2 "$model" --text README.md --dtype bf16 --limit 4097 --block 512

# The sanitizers, on small kernels and small models: each kernel family once, and the reading of mixed batches.
kernels='CUDA attention*,CUDA gate*,CUDA encode*,CUDA embedding*,CUDA packing*,CUDA sampling: a large*,CUDA training*'
reads='CUDA: mixed*,CUDA: states*,CUDA: chunks*'
for tool in memcheck racecheck initcheck; do
  cases="$kernels,$reads"
  [ "$tool" = racecheck ] && cases=$kernels
  [ "$tool" = initcheck ] && cases=$reads # the tests of single kernels write to all memory first
  if command -v compute-sanitizer >/dev/null; then
    step "compute-sanitizer $tool" 75 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$build/bdh_gpu_tests" -tc="$cases"
  else
    step "compute-sanitizer $tool" 5 sh -c 'echo "compute-sanitizer is not on PATH"; exit 1'
  fi
done

stamp=$(date -u +%Y-%m-%d)
file=$stamp-$(printf '%s' "$device" | tr -cs 'A-Za-z0-9\n' '-')
mkdir -p "$results" "$logs/charts"
step "bench" 170 "$build/bdh-bench" --device cuda --quick --seconds 130 --model "$model" --scratch "$logs/scratch" \
  --json "$logs/bench.json" --chart "$logs/charts"

# --- results

text() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }
took=$(($(date +%s) - started))
written=""
if [ -s "$logs/bench.json" ]; then
  cp "$logs/bench.json" "$results/$file.json"
  written="$results/$file.json"
  for chart in "$logs/charts"/*.svg; do
    [ -f "$chart" ] || continue
    cp "$chart" "$results/$file-${chart##*/}"
    written="$written $results/$file-${chart##*/}"
  done
fi
if [ "$failed" = 0 ]; then
  {
    printf '{\n  "device": "%s",\n  "driver": "%s",\n  "date": "%s",\n' "$(text "$device")" "$(text "$driver")" "$stamp"
    printf '  "tree": "%s",\n  "seconds": %d,\n  "steps": [\n' "$tree" "$took"
    sed 's/^/    /; $!s/$/,/' "$logs/steps"
    printf '  ]\n}\n'
  } >"$results/gpu_verified.json"
  written="$written $results/gpu_verified.json"
fi
if [ -n "${OUT:-}" ]; then
  mkdir -p "$OUT"
  cp "$logs/log.txt" "$summary" "$OUT/"
  # shellcheck disable=SC2086
  [ -z "$written" ] || cp $written "$OUT/"
fi

printf '\n%s, driver %s, kernels %s\n' "$device" "$driver" "$tree"
cat "$summary"
printf '%5d s  %d passed, %d failed\n' "$took" "$passed" "$failed"
[ -z "$written" ] || printf 'written: %s\n' "$written"
[ "$failed" = 0 ] || { printf 'make gpu: NOT verified\n'; exit 1; }
printf 'make gpu: verified\n'
