#!/bin/sh
# Runs clang-tidy, several files at a time, and prints findings alone: on the sources that differ from origin/main, or on
# main itself from the state a day before HEAD, and for each header on three sources that include it directly; on every source with
# `all`, or where history has nothing older to compare with. In CI on the 16 that changed last.
# usage: tidy.sh BUILD CLANG_TIDY [all]
# A source found clean stays so while it, what it includes and the checks are the same: ${XDG_CACHE_HOME:-~/.cache}/bdh/tidy.
# A .cu file is checked as C++ for the emulator. What needs cuBLAS, which is not everywhere, is not checked.
set -eu
build=$1
tidy=$2
scope=${3:-changed}
most=-0  # all of them
[ -z "${CI:-}" ] || [ "$scope" = all ] || most=16
clean=${XDG_CACHE_HOME:-$HOME/.cache}/bdh/tidy
mkdir -p "$clean"
find "$clean" -type f -mtime +30 -delete

lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT

# The names of files that changed, in more than comments, those that changed last first; fails where there is no older commit.
changed() {
  base=$(git merge-base HEAD origin/main 2>/dev/null) || base=""
  if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then
    base=$(git rev-list -1 --before="$(git log -1 --format=%ct | awk '{ print $1 - 86400 }')" HEAD)
  fi
  [ -n "$base" ] || base=$(git rev-list --max-parents=0 HEAD | tail -n 1)
  [ "$base" != "$(git rev-parse HEAD)" ] || return 1
  git ls-files --others --exclude-standard >"$lists/new"
  git diff --numstat --no-renames -I'^ *//' "$base" | cut -f 3 | cat - "$lists/new" >"$lists/differ"
  { cat "$lists/new"; git diff --name-only HEAD; git log --format= --name-only "$base..HEAD"; } |
    awk -v differ="$lists/differ" 'BEGIN { while ((getline file <differ) > 0) wanted[file] = 1 } wanted[$0]-- > 0'
}

# A line for each source: it, what it includes from here directly, a bar, and all that it includes.
includes() {
  xargs grep -H '^#include "' <"$lists/files" | awk -F'[:"]' -v files="$lists/files" '
    BEGIN { while ((getline file <files) > 0) known[file] = 1 }
    {
      here = $1; sub("[^/]*$", "", here)
      for (place = 1; place <= 3; ++place) {
        file = (place == 1 ? "" : place == 2 ? "tests/support/cuda/" : here) $3
        if (file in known) { direct[$1] = direct[$1] " " file; break }
      }
    }
    function visit(file, names, count, i) {
      if (file in seen) return
      seen[file] = 1
      printf " %s", file
      count = split(direct[file], names, " ")
      for (i = 1; i <= count; ++i) visit(names[i])
    }
    END {
      for (file in known) if (file ~ /\.(cpp|cu)$/) { delete seen; printf "%s%s |", file, direct[file]; visit(file); print "" }
    }'
}

find bdh kernels tests bench tools \( -name '*.cpp' -o -name '*.cu' -o -name '*.h' \) ! -path bench/cuda/blas.cpp |
  sort >"$lists/files"
includes | sort >"$lists/includes"
if [ "$scope" = all ] || ! changed >"$lists/changed" 2>/dev/null || grep -q -x .clang-tidy "$lists/changed"; then
  cp "$lists/files" "$lists/changed"
fi

# The sources that have to be looked at, each with a name for its state.
checks=$({ cat .clang-tidy "$0"; "$tidy" --version; } | sha256sum | cut -c1-16)
awk -v changed="$lists/changed" -v whole="$([ "$scope" = all ] && echo 1)" '
  BEGIN { while ((getline file <changed) > 0) rank[file] = ++changes }
  {
    first = 0
    for (i = 1; $i != "|"; ++i)
      if ($i in rank && (i == 1 || whole || ++includers[$i] <= 3) && (!first || rank[$i] < first)) first = rank[$i]
    source = $1
    sub("^[^|]*[|]", "")
    if (first) print first, source $0
  }' "$lists/includes" | sort -n |
  while read -r _ source files; do
    # shellcheck disable=SC2086
    state=$(sha256sum $files | sha256sum | cut -c1-32)-$checks
    [ -e "$clean/$state" ] || echo "$source $clean/$state"
  done >"$lists/unchecked"
head -n "$most" "$lists/unchecked" >"$lists/wanted"
echo "tidy: $(wc -l <"$lists/wanted") of $(wc -l <"$lists/unchecked") sources to check, of $(wc -l <"$lists/includes") in all"

# shellcheck disable=SC2016
xargs -r -n 2 -P "$(nproc)" sh -c '
  file=$2
  case $2 in *.cu) file=$0/emulated/$2.cpp ;; esac
  findings=$("$1" -p "$0" --quiet "$file" 2>&1) || { printf "%s\n" "$findings" "tidy: $2" >&2; exit 1; }
  touch "$3"
' "$build" "$tidy" <"$lists/wanted"
