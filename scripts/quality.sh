#!/usr/bin/env bash
# Compares the models that `rekindle train` makes with those of scikit-learn and LightGBM on real data, and replays each data set through the whole
# loop: the loss with retraining beside that of the first model.
#
# usage: quality.sh PROGRAM [SECONDS]
#
# SECONDS is the budget of `train --auto` on each set (default 600; 0 leaves it out). The data sets are read from REKINDLE_SHARED_DATA or ../shared/data;
# those that are absent are skipped, but for the two in the repository. The first run installs the other libraries into .tools/quality (400 MB).
set -euo pipefail
[[ -x "${1:-}" ]] || { echo "usage: quality.sh PROGRAM [SECONDS] (no program at '${1:-}')" >&2; exit 2; }
program=$(realpath "$1")
budget=${2:-600}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'quality: %s\n' "$*"; }

. scripts/python-environments.sh

python=$(python_311)
environment .tools/quality "scikit-learn==1.9.1" "lightgbm==4.7.0" "pandas==2.3.3" "pyarrow==21.0.0"
"${CARGO:-cargo}" build --release --locked --package rekindle-training --example quality

data=target/quality/data
mkdir -p "$data"
find "$data" -type l -delete
shared=$(realpath --canonicalize-missing "${REKINDLE_SHARED_DATA:-../shared/data}")
for name in flights_2013 chicago_taxi_tips bike_hourly digits_8x8; do
    for file in "$shared/$name.parquet" "$PWD/deploy/demo/$name.parquet"; do
        [[ -e "$file" ]] && ln -sfn "$file" "$data/$name.parquet" && break
    done || true
done
.tools/quality/bin/python -W ignore scripts/quality/compare.py target/release/examples/quality --data "$data" --budget "$budget"

# replay SET TARGET UNTIL IGNORED [OPTION]...
#
# Prints the score of the live models and of the first model on the rows after the first redeployment, and counts the trainings.
replay() {
    local file="$data/$1.parquet" out="target/quality/$1"
    [[ -e "$file" ]] || { say "$1: the replay is skipped, the file is absent"; return; }
    say "$1: replay with retraining"
    "$program" demo --data "$file" --target "$2" --time timestamp --train-until "$3" --ignore "$4" --out "$out" "${@:5}" >"$out.log"
    .tools/quality/bin/python scripts/quality/live.py "$1" "$out/summary.json"
}
replay flights_2013 late 2013-05-01T00:00:00Z flight_id,flight_no,arr_delay
replay chicago_taxi_tips big_tip 2014-04-01T00:00:00Z trip_id,tips
replay bike_hourly cnt 2011-09-01T00:00:00Z casual,registered
