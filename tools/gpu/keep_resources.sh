#!/bin/sh
# Compiler launcher of the .cu files: runs the command, and keeps what ptxas says of registers and spills beside the
# object, as OBJECT.resources, for resources.sh.
set -u

object=""
previous=""
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"

code=0
"$@" 2>"$object.resources" || code=$?
grep -v -E '^ptxas info|^ +[0-9]+ bytes stack frame|^$' "$object.resources" >&2
exit "$code"
