#!/bin/sh
# The table of registers, spills and shared memory of every kernel that a build holds, from what keep_resources.sh
# kept; fails when a hot kernel spills, or an architecture is missing. Shared memory that a launch asks for is not in it.
# usage: resources.sh BUILD TABLE [ARCHITECTURE...]     sm_80 and sm_90a by default
set -eu

build=$1 # from the root of the sources, where this is run
table=$2
shift 2
[ $# -gt 0 ] || set -- sm_80 sm_90a

# Every kernel is hot but these, of which each needs a reason.
#   attend<., 8> and gate<., 8, 1>: D above 1,024; x, its part of a or y and the rows in flight take every register
cold='attention_decode +attend<[a-z0-9_]+, 8> |gate_decode +gate<[a-z0-9_]+, 8, 1> '

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
find "$build/CMakeFiles/bdh_cuda.dir/kernels/cuda" -name '*.cu.o.resources' | sort | while read -r file; do
  family=${file##*/}
  c++filt <"$file" | awk -v family="${family%.cu.o.resources}" -v wanted=" $* " '
    /Compiling entry function/ {
      split($0, quoted, "\047")
      kernel = quoted[2]; architecture = quoted[4]
      sub(/^void /, "", kernel)
      sub(/\([^()]*\)$/, "", kernel)
      while (match(kernel, /_GLOBAL__[A-Za-z0-9_]*::/)) kernel = substr(kernel, RSTART + RLENGTH)
      gsub(/bdh::cuda::|\(anonymous namespace\)::|\(int\)/, "", kernel)
      sub(/\(Mma\)0/, "warp", kernel)
      sub(/\(Mma\)1/, "warpgroup", kernel)
    }
    /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
    /Used [0-9]+ registers/ {
      shared = 0
      for (i = 1; i <= NF; ++i) if ($i == "smem,") shared = $(i - 2); else if ($i == "smem") shared = $(i - 2)
      for (i = 1; i <= NF; ++i) if ($i == "Used") registers = $(i + 1)
      if (index(wanted, " " architecture " "))
        printf "%-8s %-18s %-44s %9d %7d %7d %6d %7d\n", architecture, family, kernel, registers, stores, loads, stack, shared
    }'
done | sort >"$lines"

{
  printf '# What ptxas says of each kernel; written by make cuda-check. Bytes, but for registers (of a thread).\n'
  printf '%-8s %-18s %-44s %9s %7s %7s %6s %7s\n' GPU family kernel registers stores loads stack shared
  cat "$lines"
} >"$table"

for source in kernels/cuda/*.cu kernels/cuda/training/*.cu; do
  family=${source##*/}
  grep -q " ${family%.cu} " "$lines" || { echo "resources: $build holds nothing of $source" >&2; exit 1; }
done
for architecture in "$@"; do
  grep -q "^$architecture " "$lines" || { echo "resources: $build holds nothing for $architecture" >&2; exit 1; }
done
spills=$(awk -v cold="$cold" '($(NF - 3) > 0 || $(NF - 2) > 0) && $0 !~ cold' "$lines")
echo "resources: $(wc -l <"$lines") kernels in $table"
[ -z "$spills" ] || { printf 'resources: hot kernels spill registers:\n%s\n' "$spills" >&2; exit 1; }
