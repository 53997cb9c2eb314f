#!/bin/sh
# 64-bit Arm, cross-built with Debian's compiler and run by qemu: the tests of base, model and kernels, and the minimal example.
# usage: run.sh BUILD [all]     without `all` those tests that take seconds
set -eu
cd "$(dirname "$0")/../.."
build=$1
tests='*tests/base*,*tests/kernels/cpu_kernels*,*tests/kernels/quantized_rows*,*tests/kernels/sampler*,*tests/model/golden_logits*,*tests/model/quantization*,*tests/model/packed_layout*'
[ "${2:-}" != all ] || tests='*'
demo=tools/examples/shakespeare-small
libraries=/usr/aarch64-linux-gnu

tools/setup/arm64.sh "$build/packages"
# configured FOLDER OPTION...
configured() {
  folder=$1
  shift
  [ -f "$folder/build.ninja" ] || cmake -S . -B "$folder" -G Ninja --toolchain "$PWD/tools/cmake/aarch64.cmake" \
    -DARM64_ROOT="$(cd "$build/packages/root" && pwd)" -DBDH_WERROR=ON "$@" >/dev/null
}
configured "$build/tests" -DBDH_TESTS=ON -DBDH_TORCH=OFF -DBDH_TOKENIZERS=OFF -DBDH_MPI=OFF -DBDH_CUDA=OFF
configured "$build/minimal" -DBDH_MINIMAL=ON
cmake --build "$build/tests" --target bdh_core_tests
cmake --build "$build/minimal"

# qemu takes no notice of an address space limit.
qemu-aarch64 -L "$libraries" "$build/tests/bdh_core_tests" --source-file="$tests" --test-case-exclude='*address space limit*'

# The same text as on this machine.
qemu-aarch64 -L "$libraries" "$build/minimal/generate" "$demo" ROMEO: 40 >"$build/text"
cat "$build/text"
grep -q '6 tokens read, 40 written' "$build/text" || { echo "arm: the example did not write 40 tokens" >&2; exit 1; }
