#!/bin/sh
# tools/gpu/run.sh with programs that only pretend: what it says and writes without a GPU, when all goes well, and when
# a step fails. usage: run_test.sh
set -eu
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fakes=$folder/fakes
export GPU_BUILD="$folder/build" RESULTS="$folder/results" OUT="$folder/out"
mkdir -p "$fakes" "$GPU_BUILD"

fail() { printf 'tests/gpu/run_test.sh: %s\n' "$1" >&2; cat "$folder/said" >&2; exit 1; }

# program PATH BODY
program() { printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod +x "$1"; }

# expect CODE TEXT: runs it, and looks for its exit code and a line.
expect() {
  code=0
  PATH="$fakes:$PATH" tools/gpu/run.sh >"$folder/said" 2>&1 || code=$?
  [ "$code" = "$1" ] || fail "exit code $code, not $1"
  grep -q -e "$2" "$folder/said" || fail "it does not say: $2"
}

program "$fakes/nvidia-smi" 'exit 9'
expect 1 'there is no GPU on this machine'

program "$fakes/nvidia-smi" 'case $1 in *name*) echo "Pretended GPU 80GB" ;; *cap*) echo 9.0 ;; *) echo 999.1 ;; esac'
expect 1 'does not hold bdh, bdh-bench and bdh_gpu_tests'

program "$fakes/git" 'exit 1'
program "$fakes/compute-sanitizer" 'while [ "${1#-}" != "$1" ]; do case $1 in --tool|--error-exitcode) shift ;; esac; shift; done; exec "$@"'
program "$GPU_BUILD/bdh_gpu_tests" 'echo "[doctest] Status: SUCCESS!"'
program "$GPU_BUILD/bdh" 'case $1 in
  generate) echo "some text" ;;
  eval) echo "  \"nats_per_token\": 2.5," ;;
esac'
program "$GPU_BUILD/bdh-bench" 'while [ $# -gt 0 ]; do
  case $1 in --json) echo "{}" >"$2" ;; --chart) echo "<svg/>" >"$2/roofline.svg" ;; esac
  shift
done'
expect 1 'tree is missing'

echo 0123456789abcdef >"$GPU_BUILD/tree"
expect 0 'make gpu: verified'
grep -q '"tree": "0123456789abcdef"' "$RESULTS/gpu_verified.json" || fail "gpu_verified.json does not name the kernels"
[ -f "$OUT/gpu_verified.json" ] || fail "OUT has no gpu_verified.json"
written() { [ -f "$1" ]; }
written "$RESULTS"/*-Pretended-GPU-80GB.json || fail "no raw figures"
written "$RESULTS"/*-Pretended-GPU-80GB-roofline.svg || fail "no chart"

rm -r "$RESULTS" "$OUT"
program "$GPU_BUILD/bdh" 'case "$*" in
  generate*cuda*) echo "another text" ;;
  generate*) echo "some text" ;;
  eval*cuda*) echo "  \"nats_per_token\": 2.6," ;;
  eval*) echo "  \"nats_per_token\": 2.5," ;;
  *) exit 3 ;;
esac'
program "$GPU_BUILD/bdh-bench" 'exit 3'
rm "$fakes/compute-sanitizer"
expect 1 'NOT verified'
for step in '500 greedy tokens as on the CPU' 'eval as on the CPU, parallel' 'bench'; do
  grep -q "$step *FAILED" "$folder/said" || fail "it does not say that a step failed: $step"
done
command -v compute-sanitizer >/dev/null || grep -q 'compute-sanitizer is not on PATH' "$folder/said" ||
  fail "a missing compute-sanitizer went unnoticed"
grep -q 'tests *passed' "$folder/said" || fail "it does not say that the tests passed"
[ ! -e "$RESULTS/gpu_verified.json" ] || fail "gpu_verified.json after a failure"
[ -s "$OUT/log.txt" ] || fail "no log in OUT"

echo "tools/gpu/run.sh: no GPU, no binaries, no kernels' name, success and failed steps are told as they are"
