#!/bin/sh
# Configures a build directory with CMake and Ninja, unless it already has these options.
# usage: configure.sh DIRECTORY COMPILER NAME=VALUE...
set -eu

directory=$1
compiler=$(command -v "$2") || { echo "setup: there is no compiler '$2'" >&2; exit 1; }
shift 2
cache=$directory/CMakeCache.txt

has() { [ -f "$cache" ] && grep -q "^$1:[A-Z]*=$2\$" "$cache"; }

# CMake cannot change the compiler or generator of a directory in place.
if ! has CMAKE_CXX_COMPILER "$compiler" || ! has CMAKE_GENERATOR Ninja; then
  rm -rf "$cache" "$directory/CMakeFiles"
fi

configured=yes
[ -f "$directory/build.ninja" ] && [ -f "$cache" ] || configured=no
for option in "$@"; do
  has "${option%%=*}" "${option#*=}" || configured=no
done
[ "$configured" = no ] || exit 0

for option in "$@"; do
  set -- "$@" "-D$option"
  shift
done
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake -S . -B "$directory" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" "$@" >"$log" 2>&1; then
  cat "$log" >&2
  echo "setup: cmake could not configure $directory; its reason stands above" >&2
  exit 1
fi
