#!/bin/sh
# Prints the Python of a virtual environment that holds tests/parity/requirements.txt, made first if need be.
# One environment for all clones: ${XDG_CACHE_HOME:-~/.cache}/bdh/venv. NO_INSTALL=1 names what is missing and stops.
set -eu

here=$(dirname "$0")
requirements=$here/../../tests/parity/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bdh
venv=$cache/venv
stamp=$venv/.has-$(sha256sum "$requirements" | cut -c1-16)

stop() { printf 'setup: %s\n' "$1" >&2; exit 1; }

ready() { [ -e "$stamp" ] && [ -x "$venv/bin/python" ]; }

prepare() {
  ! ready || return 0
  names=$(grep -v '^#' "$requirements" | tr -s '\n' ' ')
  [ -z "${NO_INSTALL:-}" ] || stop "missing in $venv: $names(NO_INSTALL is set; needed: python3 -m venv, then pip install -r tests/parity/requirements.txt)"
  if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || "$here/packages.sh" python
    python3 -m venv --clear "$venv" || stop "python3 cannot make a virtual environment in $venv"
  fi
  echo "setup: pip install $names(in $venv; PyTorch is some gigabytes, once)" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2 ||
    stop "pip could not install $names(its reason stands above; it needs a network or a wheel directory in PIP_FIND_LINKS)"
  touch "$stamp"
}

if ! ready; then
  mkdir -p "$cache"
  exec 9>"$cache/venv.lock"
  flock 9
  prepare
fi
echo "$venv/bin/python"
