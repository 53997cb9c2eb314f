#!/bin/sh
# Copies what a build needs beside nvcc, cmake and ninja, headers and CMake's files of three Debian packages, to a
# folder for a machine that cannot install them: there, CMAKE_PREFIX_PATH=FOLDER/usr make gpu.
# The name of the kernels goes along, for machines where git's history does not. usage: packages.sh FOLDER
set -eu
cd "$(dirname "$0")/../.."

folder=$1
rm -rf "$folder"
mkdir -p "$folder"
architecture=$(dpkg --print-architecture)
dpkg -L "libsimdjson-dev:$architecture" libcli11-dev doctest-dev | grep -E '^/usr/(include|lib|share/cmake)/' | sort -u |
  while read -r file; do
    [ -d "$file" ] && [ ! -L "$file" ] || cp -P --parents "$file" "$folder"
  done
libraries=$(dirname "$(find "$folder/usr/lib" -name libsimdjson.so)")
cp -P "${libraries#"$folder"}"/libsimdjson.so.* "$libraries/"
tools/gpu/tree.sh >"$folder/tree" || rm -f "$folder/tree"
du -sh "$folder" >&2
