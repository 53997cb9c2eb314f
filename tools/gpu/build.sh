#!/bin/sh
# Makes a folder that `make gpu` can run on another machine: the bdh command, bdh-bench, the tests for a GPU, the libraries that
# they need, and the name of the kernels that are in them.
# usage: build.sh FOLDER [ARCHITECTURES]     80;90a by default; objects stay in build-cuda
set -eu
cd "$(dirname "$0")/../.."

folder=$1
architectures=${2:-80;90a}
objects=build-cuda
name=${folder##*/}

stop() { printf 'gpu-build: %s\n' "$1" >&2; exit 1; }

command -v nvcc >/dev/null || stop "there is no nvcc on PATH; it comes with the CUDA Toolkit, 12 or later"
tools/setup/configure.sh "$objects" "${CXX:-g++}" CMAKE_BUILD_TYPE=Release BDH_TESTS=ON BDH_BENCH=ON \
  "BDH_CUDA=$architectures" "BDH_GPU_FOLDER=$name" 'CMAKE_BUILD_RPATH=$ORIGIN/lib;$ORIGIN/../lib'
cmake --build "$objects" -j "$(nproc)" --target bdh_command bdh_bench_command bdh_example_load_model bdh_c_program bdh_gpu_tests

rm -rf "$folder"
mkdir -p "$folder/lib" "$folder/examples"
cp "$objects/bdh" "$objects/bdh-bench" "$objects/bdh_c_program" "$objects/bdh_gpu_tests" "$folder/"
cp "$objects/examples/load_model" "$folder/examples/"
strip "$folder/bdh" "$folder/bdh-bench" "$folder/bdh_gpu_tests" "$folder/examples/load_model"

# Every library but the C library's own, which must be the machine's, and those that come with CUDA.
ldd "$folder/bdh" "$folder/bdh-bench" "$folder/bdh_gpu_tests" | sed -n 's/^.*=> \(\/[^ ]*\) .*$/\1/p' | sort -u |
  grep -v -E '/(libc|libm|libpthread|libdl|librt|libcu[a-zA-Z]*|libnv[a-zA-Z]*)\.so' |
  while read -r library; do cp -L "$library" "$folder/lib/"; done

# Without git's history, the name that packages.sh brought along with the sources.
carried=${CMAKE_PREFIX_PATH:-}
carried=${carried%/usr}/tree
if git rev-parse --verify -q HEAD >/dev/null 2>&1; then
  tools/gpu/tree.sh >"$folder/tree" || rm -f "$folder/tree"
elif [ -f "$carried" ]; then
  cp "$carried" "$folder/tree"
fi
[ -f "$folder/tree" ] || echo "gpu-build: the kernels have no name, so a run of this folder is no record" >&2
du -sh "$folder" >&2
