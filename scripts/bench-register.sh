#!/usr/bin/env bash
# Memory and time of registering large files as datasets.
#
# usage: bench-register.sh PROGRAM [MEGABYTES]
# Starts `rekindle up` in a temporary folder on free ports for each of two files, registers it, and prints the seconds and the peak
# resident memory (VmHWM) of the process: a CSV file of MEGABYTES (default 2000) with its rows out of order in time, and a small Parquet
# file of one text repeated 10^8 times, which must be refused with the name of the limit. Fails above the bar of 400 MB.
# The temporary folder (in TMPDIR, default /var/tmp) takes about six times the size of the CSV file.
set -euo pipefail
program=$(realpath "$1")
megabytes=${2:-2000}
bar=400
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/bench-register-XXXXXX")
pid=
stop() {
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  pid=
}
trap 'stop; rm -rf "$folder"' EXIT

generate() { "${CARGO:-cargo}" run --quiet --release --locked --package rekindle-dataset --example large_files -- "$@"; }

peak_mb() { awk '/^VmHWM/ { printf "%.0f", $2 * 1024 / 1e6 }' "/proc/$pid/status"; }

start() {
  local data=$folder/$1
  "$program" up --data-dir "$data" --free-ports >"$folder/$1.log" 2>&1 &
  pid=$!
  until [ -s "$data/endpoints.json" ]; do
    kill -0 "$pid" || { cat "$folder/$1.log"; exit 1; }
    sleep 0.01
  done
  address=$(sed -n 's/.*"control": *"\([^"]*\)".*/\1/p' "$data/endpoints.json")
  "$program" --address "$address" status --wait >/dev/null
}

# Sets registered, seconds and peak; register.log is what the program printed.
register() {
  local began
  began=$(date +%s%N)
  registered=no
  "$program" --address "$address" dataset register "$@" >"$folder/register.log" 2>&1 && registered=yes
  seconds=$(awk -v ns=$(($(date +%s%N) - began)) 'BEGIN { printf "%.1f", ns / 1e9 }')
  peak=$(peak_mb)
}

failed() {
  echo "bench-register: $1" >&2
  cat "$folder/register.log" >&2
  exit 1
}

generate csv "$folder/large.csv" "$megabytes"
start csv
idle=$(peak_mb)
register large "$folder/large.csv" --time at
[ "$registered" = yes ] || failed "the CSV file was not registered"
left=$(find "$folder/csv/objects/staging" -type f 2>/dev/null | wc -l)
echo "CSV file of $megabytes MB: registered in $seconds s, peak $peak MB resident (bar $bar; $idle before), $left raw uploads left"
[ "$peak" -lt "$bar" ] || failed "the peak of $peak MB is above the bar"
[ "$left" -eq 0 ] || failed "the raw upload was not removed"
stop
rm -rf "$folder/large.csv" "$folder/csv"

generate repeated "$folder/repeated.parquet"
size=$(stat -c %s "$folder/repeated.parquet")
start parquet
register repeated "$folder/repeated.parquet"
[ "$registered" = no ] || failed "the repeated text was registered"
grep -q 'registry.limits' "$folder/register.log" || failed "the error does not name the limit"
echo "Parquet file of $size bytes, one text 10^8 times: refused in $seconds s, peak $peak MB resident (bar $bar)"
[ "$peak" -lt "$bar" ] || failed "the peak of $peak MB is above the bar"
