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
root=$(cd "$build/packages/root" && pwd)
# configure FOLDER NAME=VALUE...
configure() {
  folder=$1
  shift
  tools/setup/configure.sh "$folder" aarch64-linux-gnu-g++ CMAKE_TOOLCHAIN_FILE="$PWD/tools/cmake/aarch64.cmake" \
    ARM64_ROOT="$root" BDH_WERROR=ON "$@"
}
configure "$build/tests" BDH_TESTS=ON BDH_TORCH=OFF BDH_TOKENIZERS=OFF BDH_MPI=OFF BDH_CUDA=OFF
configure "$build/minimal" BDH_MINIMAL=ON BDH_LTO=OFF
cmake --build "$build/tests" --target bdh_core_tests
cmake --build "$build/minimal"

# qemu takes no notice of an address space limit.
qemu-aarch64 -L "$libraries" "$build/tests/bdh_core_tests" --source-file="$tests" --test-case-exclude='*address space limit*'

# The same text as on this machine.
qemu-aarch64 -L "$libraries" "$build/minimal/generate" "$demo" ROMEO: 40 >"$build/text"
cat "$build/text"
for line in 'That this news of a cheek; to the world' '6 tokens read, 40 written'; do
  grep -q "$line" "$build/text" || { echo "arm: the example did not write: $line" >&2; exit 1; }
done
