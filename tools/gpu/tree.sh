#!/bin/sh
# Prints the name of the committed kernels/cuda: the first 16 hex digits of the sha256 of its git listing. Fails where
# the working tree differs from it, or where git or the history is not at hand.
set -eu
cd "$(dirname "$0")/../.."

stop() { printf 'tree: %s\n' "$1" >&2; exit 1; }

git rev-parse --verify -q HEAD >/dev/null 2>&1 || stop "there is no git history here"
[ -z "$(git status --porcelain -- kernels/cuda)" ] || stop "kernels/cuda differs from HEAD; commit it first"
git ls-tree -r HEAD kernels/cuda | sha256sum | cut -c1-16
