#!/bin/sh
# A Debian package installs, runs and goes without a trace: in a root of its own that holds the packages it depends on, and no
# others but dash and libc-bin, copied from this system. Needs root, for chroot. usage: check_package.sh DEB
set -eu
cd "$(dirname "$0")/../.."

deb=$1
demo=tools/examples/shakespeare-small
if [ "$(id -u)" -ne 0 ]; then
  echo "check_package.sh: not root, so $deb is not tried out"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root
log=$folder/log

fail() { printf 'check_package.sh: %s: %s\n' "$deb" "$1" >&2; cat "$log" >&2; exit 1; }
# must WHAT COMMAND...
must() { what=$1; shift; "$@" >"$log" 2>&1 || fail "$what"; }
# The names in a list of dependencies: "libc6 (>= 2.34), a | b" is libc6 and a.
names() { tr ',' '\n' | sed 's/^ *//; s/[ (|:].*//' | sort -u; }

# Every package that is needed, those that these need, and so on.
: >"$folder/packages"
{ dpkg-deb -f "$deb" Depends | names; printf 'dash\nlibc-bin\n'; } >"$folder/new"
while [ -s "$folder/new" ]; do
  cat "$folder/new" >>"$folder/packages"
  xargs dpkg-query -W -f '${Depends}, ${Pre-Depends}\n' <"$folder/new" | names | grep . | while read -r name; do
    grep -qx "$name" "$folder/packages" || ! dpkg-query -W "$name" >/dev/null 2>&1 || echo "$name"
  done >"$folder/newer"
  mv "$folder/newer" "$folder/new"
done

mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/usr/sbin" "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" \
  "$root/proc" "$root/tmp"
for merged in bin lib lib64 sbin; do ln -s "usr/$merged" "$root/$merged"; done
while read -r name; do
  dpkg-query -s "$name"
  echo
done <"$folder/packages" >"$root/var/lib/dpkg/status"
xargs dpkg-query -L <"$folder/packages" | grep '^/' | grep -v '^/usr/share' | while read -r path; do
  [ ! -d "$path" ] && [ -e "$path" ] && echo ".$path"
done | sort -u >"$folder/files"
tar -C / -c -T "$folder/files" | tar -C "$root" -x --keep-directory-symlink
for list in $(sed 's#.*#/var/lib/dpkg/info/&.list /var/lib/dpkg/info/&:*.list#' "$folder/packages"); do
  [ ! -f "$list" ] || cp "$list" "$root/var/lib/dpkg/info/"
done
ldconfig -r "$root"

in_root() { (cd "$root" && find . -not -path './var/lib/dpkg/*' -not -path './var/log/*' -not -name ld.so.cache | sort); }
in_root >"$folder/before"
must 'dpkg cannot install it' dpkg --root="$root" --install "$deb"
cp -r "$demo" "$root/tmp/demo"
must 'the command fails' chroot "$root" /usr/bin/bdh generate /tmp/demo --prompt ROMEO: --max-new-tokens 20 --device cpu
cc -std=c99 tools/examples/generate.c -o "$root/tmp/generate" -I"$root/usr/include" -L"$root/usr/lib" -lbdh \
  -Wl,-rpath-link,"$(dirname "$(find /usr/lib -name libsimdjson.so | head -n 1)")"
must 'the example in C fails' chroot "$root" /tmp/generate /tmp/demo ROMEO:
if chroot "$root" /usr/bin/bdh generate /tmp/none --prompt x >"$log" 2>&1; then fail 'the command does not fail without a model'; fi
rm -rf "$root/tmp/demo" "$root/tmp/generate"
must 'dpkg cannot remove it' dpkg --root="$root" --purge bdh
in_root >"$folder/after"
diff "$folder/before" "$folder/after" >"$log" || fail 'it leaves files behind'
echo "$(basename "$deb"): installed, run and removed in a root with $(wc -l <"$folder/packages") packages"
