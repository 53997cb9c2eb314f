#!/bin/sh
# Runs clang-tidy on every source, several at a time, and prints findings alone.
# usage: tidy.sh BUILD_DIRECTORY CLANG_TIDY     The kernels, compiled once for each instruction set,
# are checked once; what needs cuBLAS, which is not everywhere, is not.
set -eu
build=$1
tidy=$2

find bdh kernels tests bench tools -name '*.cpp' ! -path 'kernels/cpu/generic/*' ! -path bench/cuda/blas.cpp -print0 |
  xargs -0 -n 1 -P "$(nproc)" sh -c '
    findings=$("$1" -p "$0" --quiet "$2" 2>/dev/null) || { printf "%s\n" "$findings" "tidy: $2" >&2; exit 1; }
  ' "$build" "$tidy"
