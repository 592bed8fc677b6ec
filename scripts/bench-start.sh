#!/usr/bin/env bash
# Measures the time of `rekindle up` from start to ready, and its resident memory when idle.
#
# usage: bench-start.sh PROGRAM [TIMES]
# Prints one line per start and the medians; the targets are 2 s and 150 MB.
set -euo pipefail
program=$1
times=${2:-5}
folder=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

resident_mb() { awk '/^VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$1/status"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for n in $(seq "$times"); do
  data=$folder/data-$n
  began=$(date +%s%N)
  "$program" up --data-dir "$data" --free-ports >"$folder/up-$n.log" 2>&1 &
  pid=$!
  until [ -s "$data/endpoints.json" ]; do
    kill -0 "$pid" || { cat "$folder/up-$n.log"; exit 1; }
    sleep 0.005
  done
  control=$(sed -n 's/.*"control": *"\([^"]*\)".*/\1/p' "$data/endpoints.json")
  "$program" --address "$control" status --wait >/dev/null
  ready=$(date +%s%N)
  sleep 3 # idle: memory that start-up allocated is released
  nats=$(pgrep -P "$pid" -f nats-server || true)
  echo "$(((ready - began) / 1000000)) $(resident_mb "$pid") $(resident_mb "${nats:-$pid}")" | tee -a "$folder/figures" |
    awk -v n="$n" '{ printf "start %d: ready after %.2f s; rekindle %d MB, nats-server %d MB resident\n", n, $1 / 1000, $2, $3 }'
  kill "$pid"
  wait "$pid" || true
  pid=
done
printf 'median: ready after %s ms (target 2000), rekindle %s MB resident idle (target 150), nats-server %s MB\n' \
  "$(cut -d' ' -f1 "$folder/figures" | median)" "$(cut -d' ' -f2 "$folder/figures" | median)" \
  "$(cut -d' ' -f3 "$folder/figures" | median)"
