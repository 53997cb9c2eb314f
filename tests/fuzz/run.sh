#!/bin/sh
# Runs every fuzzer of a build directory for so many seconds, two side by side; stops with an error at the first finding.
# usage: run.sh BUILD SECONDS     What they learn is kept in BUILD/corpus; a finding is written to BUILD/findings.
set -eu

build=$1
seconds=$2
here=$(dirname "$0")

fuzz() {
  name=$(basename "$1" _fuzz)
  mkdir -p "$build/corpus/$name" "$build/findings"
  log=$build/corpus/$name.log
  if ! "$1" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -malloc_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$name-" "$build/corpus/$name" "$here/seeds/$name" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "fuzz: $name found something: see $build/findings" >&2
    return 1
  fi
  printf '%-12s %ss, %s runs, no finding\n' "$name" "$seconds" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
}

set -- "$build"/fuzz/*_fuzz
while [ $# -gt 0 ]; do
  fuzz "$1" & first=$!
  shift
  second=
  if [ $# -gt 0 ]; then
    fuzz "$1" & second=$!
    shift
  fi
  wait "$first"
  [ -z "$second" ] || wait "$second"
done
