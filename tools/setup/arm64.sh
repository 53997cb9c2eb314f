#!/bin/sh
# Unpacks the Arm packages that a cross build needs into a folder, with apt's lists beside them: the machine's own stay as they are.
# usage: arm64.sh FOLDER     sets up FOLDER/root, once
set -eu
folder=$1
[ ! -f "$folder/complete" ] || exit 0

stop() { printf 'setup: %s\n' "$1" >&2; exit 1; }
[ -z "${NO_INSTALL:-}" ] || stop "libsimdjson-dev for arm64 is not in $folder, and NO_INSTALL is set"
command -v apt-get >/dev/null || stop "there is no apt-get to fetch libsimdjson-dev for arm64 with"

mkdir -p "$folder/lists/partial" "$folder/root"
folder=$(cd "$folder" && pwd)
arm() {
  program=$1
  shift
  "$program" -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root -o Dir::Cache="$folder" \
    -o Dir::State::lists="$folder/lists" -o Dir::State::status=/dev/null "$@"
}
cd "$folder"
arm apt-get update || true  # what is not found says so below
library=$(arm apt-cache depends libsimdjson-dev | sed -n 's/.*Depends: *\(libsimdjson[0-9.]*\)$/\1/p')
[ -n "$library" ] || stop "the package lists know no libsimdjson-dev for arm64"
arm apt-get download libsimdjson-dev "$library" >/dev/null
for package in ./*.deb; do dpkg -x "$package" root; done
touch complete
