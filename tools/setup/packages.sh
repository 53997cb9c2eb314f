#!/bin/sh
# Installs the Debian or Ubuntu packages that each purpose needs and that are missing; does nothing when none is.
# usage: packages.sh PURPOSE...     purposes: build gcc clang mpi test parity arm package bench lint browser python
# NO_INSTALL=1 names what is missing and stops.
set -eu

stop() { printf 'setup: %s\n' "$1" >&2; exit 1; }

packages_for() {
  case $1 in
    build) echo ccache cmake ninja-build pkg-config libsimdjson-dev libcli11-dev libcpp-httplib-dev libminizip-dev libpcre2-dev libutf8proc-dev ;;
    gcc) echo g++ ;;
    clang) echo clang ;;
    mpi) echo libopenmpi-dev openmpi-bin ;;
    test) echo doctest-dev ;;
    parity) echo nginx-light ;;
    arm) echo g++-aarch64-linux-gnu qemu-user ;;
    package) echo dpkg-dev file ;;
    bench) echo libbenchmark-dev libopenblas-dev ;;
    lint) echo "clang-format-${LLVM:-14}" "clang-tidy-${LLVM:-14}" shellcheck ;;
    browser) echo chromium chromium-driver python3-selenium fonts-inter ;;
    python) echo python3 python3-venv ;;
    *) stop "packages.sh: unknown purpose '$1'" ;;
  esac
}

wanted=$(for purpose in "$@"; do packages_for "$purpose"; done)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: not a Debian system, so nothing is installed here; needed are the equivalents of:" $wanted >&2
  exit 0
fi

missing=""
for package in $wanted; do
  case " $(dpkg-query -W -f '${db:Status-Status} ' "$package" 2>/dev/null || true)" in
    *" installed "*) ;;
    *) missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0
[ -z "${NO_INSTALL:-}" ] || stop "missing packages:$missing (NO_INSTALL is set; install them with: apt-get install$missing)"
command -v apt-get >/dev/null || stop "missing packages:$missing (there is no apt-get; install them by hand)"

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || stop "missing packages:$missing (neither root nor sudo; ask an administrator: apt-get install$missing)"
  as_root="sudo"
fi

install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends $missing
}

echo "setup: installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists may be absent or old: fetch them only when installing without that fails.
if ! install >"$log" 2>&1; then
  $as_root apt-get update -qq >>"$log" 2>&1 || true
  if ! install >"$log" 2>&1; then
    cat "$log" >&2
    stop "could not install:$missing (apt's reason stands above; with a network: apt-get update && apt-get install$missing)"
  fi
fi
