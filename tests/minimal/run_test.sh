#!/bin/sh
# The minimal build: small, without iostream, and with the text of the full one. usage: run_test.sh BUILD CXX
set -eu
cd "$(dirname "$0")/../.."

build=$1
cxx=$2
most_bytes=600000   # of the stripped example, linked by g++
more_memory=4000000 # than weights as stored and a session
demo=$PWD/tools/examples/shakespeare-small
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log

fail() { printf 'tests/minimal/run_test.sh: %s\n' "$1" >&2; cat "$log" >&2; exit 1; }
# must WHAT COMMAND...: runs it, quietly.
must() { what=$1; shift; "$@" >"$log" 2>&1 || fail "$what"; }
has() { grep -q -e "$1" "$log" || fail "it does not say: $1"; }

must 'cmake cannot configure' tools/setup/configure.sh "$build/minimal" "$cxx" BDH_MINIMAL=ON BDH_WERROR=ON
must 'it does not build' cmake --build "$build/minimal"
must 'cmake cannot install' cmake --install "$build/minimal" --prefix "$folder/installed"
PKG_CONFIG_PATH=$(dirname "$(find "$folder/installed" -name bdh.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
must 'the example in C does not link' cc -std=c99 -pedantic -Wall -Wextra -Werror tools/examples/generate.c -o "$folder/generate" \
  $(pkg-config --cflags --libs bdh)
strip "$folder/generate"

# Size and what it needs. g++'s linker plugin makes the difference, so clang++'s objects are not held to it.
bytes=$(wc -c <"$folder/generate")
ls -l "$folder/generate" >"$log"
if "$cxx" --version | grep -q 'Free Software Foundation' && [ "$bytes" -gt "$most_bytes" ]; then fail "it has more than $most_bytes bytes"; fi
nm -D --undefined-only "$folder/generate" >"$log"
if grep -q 'stream' "$log"; then fail 'it needs iostream'; fi
readelf -d "$folder/generate" >"$log"
has 'libsimdjson'
if grep -q -e minizip -e pcre -e utf8proc "$log"; then fail 'it needs more than simdjson'; fi

# same WHAT MODEL: the full build's text, greedy as the model directory has it
same() {
  "$build/bdh_c_program" "$2" ROMEO: 60 >"$folder/full" 2>&1
  "$folder/generate" "$2" ROMEO: 60 >"$log" 2>&1 || fail "$1: it fails"
  cmp -s "$folder/full" "$log" || fail "$1: another text than the full build's"
}
cp -r "$demo" "$folder/greedy"
echo '{"do_sample": false, "horizon": 48}' >"$folder/greedy/generation_config.json"
same 'bfloat16' "$folder/greedy"
must 'bdh convert fails' "$build/bdh" convert "$folder/greedy" "$folder/packed" --packed
same 'packed' "$folder/packed"
for bits in 8 4; do
  must 'bdh quantize fails' "$build/bdh" quantize "$folder/greedy" "$folder/of_$bits" --bits "$bits"
  same "$bits bits" "$folder/of_$bits"
done

# What it leaves out says so, and stops nothing else.
mkdir "$folder/pt"
cp "$demo/config.json" "$folder/pt"
echo no >"$folder/pt/model.pt"
if "$folder/generate" "$folder/pt" >"$log" 2>&1; then fail 'it reads a PyTorch file'; fi
has 'this build has no part for PyTorch files'
echo '{"tokenizer_class": "ByT5Tokenizer"}' >"$folder/greedy/tokenizer_config.json"
if "$folder/generate" "$folder/greedy" >"$log" 2>&1; then fail 'it has a ByT5 tokenizer'; fi
has 'warning: .*this build has no ByT5 tokenizer'

# Memory.
must 'launch.c does not compile' cc -std=c99 -O2 bench/size/launch.c -o "$folder/launch"
echo 'int main() {}' >"$folder/empty.cpp"
must 'an empty program does not link' "$cxx" "$folder/empty.cpp" -Wl,--no-as-needed -lstdc++ -o "$folder/empty"
session=$("$build/bdh" memory "$demo" --json | sed -n 's/.*"sessions_bytes": \([0-9]*\).*/\1/p')
weights=$(wc -c <"$demo/model.safetensors")
empty=$("$folder/launch" 3 "$folder/empty" | cut -d' ' -f2)
peak=$("$folder/launch" 3 "$folder/generate" "$demo" ROMEO: 200 | cut -d' ' -f2)
echo "peak $peak, an empty program $empty, weights $weights, session $session" >"$log"
[ $((peak - empty)) -le $((weights + session + more_memory)) ] || fail "it takes more than $more_memory bytes beside weights and session"
