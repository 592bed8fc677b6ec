#!/usr/bin/env bash
# Measures runs, points, versions, aliases and searches with MLflow's REST API: this registry beside MLflow's own server, both on SQLite, with
# the same client on the same machine, one after the other.
#
# usage: scripts/bench-mlflow.sh PROGRAM [RUNS [POINTS]]    (runs that are searched, 10,000 by default; points of one metric, 1,000,000)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PROGRAM=$1
RUNS=${2:-10000}
POINTS=${3:-1000000}
CARGO=${CARGO:-cargo}
MLFLOW_VERSION=3.17.2
WORK=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$WORK"' EXIT

if [[ "$(cat .tools/mlflow-server/.complete 2>/dev/null)" != "$MLFLOW_VERSION" ]]; then
    echo "installing MLflow's server $MLFLOW_VERSION into .tools/mlflow-server" >&2
    rm -rf .tools/mlflow-server
    python3 -m venv .tools/mlflow-server
    .tools/mlflow-server/bin/pip install --quiet --disable-pip-version-check "mlflow==$MLFLOW_VERSION"
    echo "$MLFLOW_VERSION" >.tools/mlflow-server/.complete
fi
$CARGO build --quiet --release --locked --package rekindle-registry --example bench_tracking
BENCH=target/release/examples/bench_tracking

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() {
    for _ in $(seq 600); do
        curl --silent --fail --output /dev/null "$1/health" && return
        sleep 0.1
    done
    echo "no server at $1" >&2
    exit 1
}
# The largest resident memory of the processes of a group, in MiB.
memory() { ps --no-headers -o rss= -p "$(pgrep -d, -f "$1")" | awk '{ sum += $1 } END { printf "%.0f", sum / 1024 }'; }

"$PROGRAM" up --data-dir "$WORK/rekindle" --free-ports >"$WORK/rekindle.log" 2>&1 &
for _ in $(seq 600); do
    [[ -e "$WORK/rekindle/endpoints.json" ]] && break
    sleep 0.1
done
OURS=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["admin"])' "$WORK/rekindle/endpoints.json")
wait_for "$OURS"
"$BENCH" "$OURS" "$RUNS" "$POINTS" >"$WORK/ours.json"
OURS_MEMORY=$(memory "$WORK/rekindle")
kill %1
wait %1 || true

PORT=$(free_port)
.tools/mlflow-server/bin/mlflow server --host 127.0.0.1 --port "$PORT" --workers 2 --backend-store-uri "sqlite:///$WORK/mlflow.db" \
    --artifacts-destination "$WORK/mlartifacts" >"$WORK/mlflow.log" 2>&1 &
wait_for "http://127.0.0.1:$PORT"
"$BENCH" "http://127.0.0.1:$PORT" "$RUNS" "$POINTS" >"$WORK/theirs.json"
THEIRS_MEMORY=$(memory "$WORK/mlflow.db")

python3 - "$WORK/ours.json" "$WORK/theirs.json" "$OURS_MEMORY" "$THEIRS_MEMORY" <<'PYTHON'
import json, sys

ours, theirs = (json.load(open(path)) for path in sys.argv[1:3])
print(f"{'':52} {'rekindle':>12} {'MLflow':>12} {'times':>7}")
for name, value in ours.items():
    other = theirs[name]
    times = other / value if name.endswith("ms") or " in ms" in name else value / other
    print(f"{name:52} {value:12,.1f} {other:12,.1f} {times:7.1f}")
print("single calls to MLflow's server include delayed acknowledgements of TCP, some 40 ms: see the client")
print(f"{'resident memory afterwards, MiB (ours: all services)':52} {sys.argv[3]:>12} {sys.argv[4]:>12}")
PYTHON
