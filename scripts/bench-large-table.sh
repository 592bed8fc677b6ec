#!/usr/bin/env bash
# Trains on ten million rows of 20 columns within 2 GiB of memory, and prints the memory and the time.
#
# usage: bench-large-table.sh [ROWS]
#
# The memory, that of cached pages of files included, is limited by a control group; without the right to create one, it is only measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'bench-large-table: %s\n' "$*"; }

limit=$((2 << 30))
rows=${1:-10000000}
export REKINDLE_LARGE_ROWS=$rows

"${CARGO:-cargo}" nextest run --release --locked --package rekindle-training --no-run

# Creates a control group, and prints its folder: of version 2, or of version 1. Nothing if the limit does not hold.
group() {
  local folder file
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    folder=/sys/fs/cgroup/rekindle-bench-$$ file=memory.max
  else
    folder=/sys/fs/cgroup/memory/rekindle-bench-$$ file=memory.limit_in_bytes
  fi
  mkdir "$folder" 2>/dev/null || return 0
  if [ -e "$folder/$file" ] && echo "$limit" >"$folder/$file" && [ "$(cat "$folder/$file")" = "$limit" ]; then
    [ ! -e "$folder/memory.swap.max" ] || echo 0 >"$folder/memory.swap.max"
    echo "$folder"
  else
    rmdir "$folder"
  fi
}

group=$(group)
if [ -n "$group" ]; then
  say "limited to $limit bytes by $group"
  trap 'rmdir "$group"' EXIT
else
  say "not limited: a control group cannot be created"
fi
# Temporary files are to be on a disk, and not in memory.
mkdir -p target/large-table
export TMPDIR="$PWD/target/large-table"
(
  if [ -n "$group" ]; then
    echo "$BASHPID" >"$group/cgroup.procs"
    grep -qx "$BASHPID" "$group/cgroup.procs"
  fi
  exec "${CARGO:-cargo}" nextest run --release --locked --package rekindle-training --no-capture -E 'binary(large_table)'
)
