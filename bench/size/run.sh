#!/bin/sh
# How small: a table of programs that generate 200 tokens, their files, memory and start.
# usage: run.sh BUILD MINIMAL MODEL CXX     with bdh and libbdh.so in BUILD, the minimal example in MINIMAL
set -eu
build=$1
minimal=$2
model=$3
cxx=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cc -std=c99 -O2 bench/size/launch.c -o "$folder/launch"
echo 'int main() {}' >"$folder/empty.cpp"
"$cxx" -O2 "$folder/empty.cpp" -Wl,--no-as-needed -lstdc++ -o "$folder/empty"
cc -std=c99 -O2 -I. tools/examples/generate.c -L"$build" -lbdh -Wl,-rpath,"$(cd "$build" && pwd)" -o "$folder/shared"

# launched FIELD TIMES PROGRAM...: 1: milliseconds to the first output, 2: bytes of memory at most
launched() {
  field=$1
  shift
  "$folder/launch" "$@" 2>"$folder/log" >"$folder/figures" || { cat "$folder/log" >&2; exit 1; }
  cut -d' ' -f"$field" "$folder/figures"
}
# stripped FILE...: bytes
stripped() { for file in "$@"; do strip -o "$folder/stripped" "$file"; wc -c <"$folder/stripped"; done | awk '{ n += $1 } END { print n }'; }

empty=$(launched 2 5 "$folder/empty")
# row WHAT FILE_BYTES PROGRAM ARGUMENTS_OF_200_TOKENS...
row() {
  what=$1
  bytes=$2
  shift 2
  awk -v what="$what" -v bytes="$bytes" -v memory="$(launched 2 5 "$@")" -v start="$(launched 1 31 "$@")" -v empty="$empty" \
    'BEGIN { printf "| %s | %.0f KB | %.1f MB | %.1f ms |\n", what, bytes / 1e3, (memory - empty) / 1e6, start }'
}

echo '| program | its file, stripped | memory, 200 tokens | start to first text |'
echo '| --- | --- | --- | --- |'
row 'example in C, minimal static library' "$(stripped "$minimal/generate")" "$minimal/generate" "$model" ROMEO: 200
row 'example in C and libbdh.so' "$(stripped "$folder/shared" "$build/libbdh.so")" "$folder/shared" "$model" ROMEO: 200
row '`bdh generate`' "$(stripped "$build/bdh")" "$build/bdh" generate "$model" --prompt ROMEO: --max-new-tokens 200
"$build/bdh" memory "$model" --json | awk -v weights="$(wc -c <"$model/model.safetensors")" '/"sessions_bytes"/ { gsub(/[^0-9]/, "");
  printf "\nMemory is what an empty C++ program does not have; weights as stored and a session are %.1f MB of it.\n", (weights + $0) / 1e6 }'
