#!/bin/sh
# Builds the tests for NEON and runs them on an emulated Arm processor, where the packages for that are. usage: run.sh BUILD
# Debian: dpkg --add-architecture arm64; packages g++-aarch64-linux-gnu, qemu-user, libsimdjson-dev:arm64, which takes the place
# of the machine's own, so that a container is the place for it.
set -eu
build=$1
target=aarch64-linux-gnu

for program in $target-g++ qemu-aarch64; do
  command -v "$program" >/dev/null || { echo "neon: not run, for want of $program: tests/neon/run.sh says what it needs"; exit 0; }
done
cmake -S . -B "$build" -G Ninja -DBDH_TESTS=ON -DBDH_TORCH=OFF -DBDH_TOKENIZERS=OFF -DBDH_CUDA=OFF -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$target-g++ -DCMAKE_C_COMPILER=$target-gcc \
  -DCMAKE_LIBRARY_ARCHITECTURE=$target >/dev/null
cmake --build "$build" -j "$(nproc)" --target bdh_tests
# The tests of tools/ start programs, which qemu does not; one sets an address space limit, of which it takes no notice.
qemu-aarch64 -L /usr/$target "$build/bdh_tests" --source-file-exclude='*tests/tools*,*tests/bench/command*'
