#!/bin/sh
# What is installed is all that programs in C, C++ and Python need: installs a build into a temporary prefix, builds the installed
# examples against it and runs them. usage: run_test.sh BUILD CXX
set -eu
cd "$(dirname "$0")/../.."

build=$1
cxx=$2
tiny=$PWD/tests/data/logits/five_heads_uneven
demo=$PWD/tools/examples/shakespeare-small
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix=$folder/installed
log=$folder/log

fail() { printf 'tests/install/run_test.sh: %s\n' "$1" >&2; cat "$log" >&2; exit 1; }
# must WHAT COMMAND...: runs it, quietly.
must() { what=$1; shift; "$@" >"$log" 2>&1 || fail "$what"; }
# has TEXT: among what the last command said.
has() { grep -q -e "$1" "$log" || fail "it does not say: $1"; }

must 'cmake cannot install' env DESTDIR="$folder/staged" cmake --install "$build" --prefix /usr/local
mv "$folder/staged/usr/local" "$prefix"
rmdir "$folder/staged/usr"
[ "$(find "$folder/staged" -mindepth 1)" = "" ] || fail 'something was installed outside the prefix'
examples=$prefix/share/doc/bdh/examples
libraries=$(dirname "$(find "$prefix" -name libbdh.so)")
export LD_LIBRARY_PATH="$libraries" PKG_CONFIG_PATH="$libraries/pkgconfig"

# Headers: what is private stays here, and what is installed needs nothing else.
for private in kernels/cpu/packed.h bdh/c/handles.h; do
  [ -f "$private" ] || fail "$private is not a header any more"
  [ ! -e "$prefix/include/$private" ] || fail "$private is installed"
done
(cd "$prefix/include" && find . -name '*.h' | sed 's/.*/#include "&"/') >"$folder/headers.cpp"
must 'the installed headers do not stand alone' "$cxx" -std=c++20 -fsyntax-only -I"$prefix/include" "$folder/headers.cpp"

# C, as a shared library.
must 'pkg-config does not know bdh' pkg-config --print-errors --exists bdh
# shellcheck disable=SC2046
must 'the example in C does not compile' cc -std=c99 -pedantic -Wall -Wextra -Werror "$examples/generate.c" -o "$folder/generate" \
  $(pkg-config --cflags --libs bdh)
# Also where flags come first, and the linker drops what nothing has asked for yet.
# shellcheck disable=SC2046
must 'flags before the source do not link' cc -Wl,--as-needed $(pkg-config --cflags --libs bdh) -std=c99 -pedantic -Werror \
  "$examples/generate.c" -o "$folder/generate"
must 'the example in C fails' "$folder/generate" "$demo" ROMEO:
has '6 tokens read, 40 written'
if "$folder/generate" "$folder/none" >"$log" 2>&1; then fail 'the example in C does not fail without a model'; fi
has 'generate: no such file or directory'
symbols=$(nm -D --defined-only "$libraries/libbdh.so" | awk '{ print $3 }' | grep -v '^bdh_' || true)
[ -z "$symbols" ] || fail "libbdh.so shows more than the C API: $symbols"
readelf -d "$libraries/libbdh.so" >"$log"
has 'soname: \[libbdh.so.0\]'
if command -v valgrind >/dev/null; then
  must 'valgrind has a finding' valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=all "$folder/generate" \
    "$tiny" ROMEO:
fi

# C++ with the static library, and C with the shared one, through CMake.
mkdir "$folder/project"
cat >"$folder/project/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.22)
project(user LANGUAGES C CXX)
find_package(bdh 0.1 REQUIRED)
add_executable(load_model $examples/load_model.cpp)
target_link_libraries(load_model PRIVATE bdh::bdh)
add_executable(generate $examples/generate.c)
target_link_libraries(generate PRIVATE bdh::c)
EOF
must 'find_package(bdh) fails' cmake -S "$folder/project" -B "$folder/project/build" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_COMPILER="$cxx"
must 'the examples do not compile' cmake --build "$folder/project/build"
must 'the example in C++ fails' env -u LD_LIBRARY_PATH "$folder/project/build/load_model" "$demo" ROMEO:
has '^ROMEO:'
must 'the example in C fails, built with CMake' "$folder/project/build/generate" "$demo" ROMEO:

must 'the installed command fails' "$prefix/bin/bdh" generate "$demo" --prompt ROMEO: --max-new-tokens 5

if command -v python3 >/dev/null; then
  unset LD_LIBRARY_PATH
  export PYTHONPATH="$prefix/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
  must 'the example in Python fails' python3 "$examples/generate.py" "$demo" ROMEO:
  has '20 tokens more'
  must 'Python finds a difference' python3 tests/install/bdh_py_test.py "$demo"
fi
