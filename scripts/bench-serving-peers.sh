#!/usr/bin/env bash
# Compares serving by rekindle, MLServer and Triton: the same ONNX networks and the same loads of `rekindle bench`.
#
# usage: bench-serving-peers.sh PROGRAM [OPTION]...
#
# Options are passed to scripts/bench-serving-peers/compare.py, e.g.:
#   --turns N      turns of each server (default: 3)
#   --seconds N    seconds of each load in each turn (default: 3)
#   --only NAME... of rekindle, mlserver and triton (default: all)
#
# The first run installs MLServer and Triton into .tools/peers (1 GB). Triton is the package nvidia-pytriton, whose server has the Python
# backend only: the network runs in it with ONNX Runtime, as in MLServer. Where it cannot run, the reason is printed and it is left out.
# Prints a line per run and a table of medians with ratios. The exit code is 0 if all servers that are installed were measured.
set -euo pipefail
[[ -x "${1:-}" ]] || { echo "usage: bench-serving-peers.sh PROGRAM [OPTION]... (no program at '${1:-}')" >&2; exit 2; }
program=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS=$PWD/.tools
PEERS=$TOOLS/peers
# That of install-tools.sh, so that all servers have the same kernels.
ONNXRUNTIME="onnxruntime==1.32.0"
# The workers of MLServer 1.7.1 do not start with newer versions of uvloop.
MLSERVER=("mlserver==1.7.1" "uvloop==0.21.0" "$ONNXRUNTIME" "onnx==1.23.2")
# No package is compiled here.
export PIP_ONLY_BINARY=:all:
TRITON=("nvidia-pytriton==0.7.0" "$ONNXRUNTIME")

say() { printf 'bench-serving-peers: %s\n' "$*"; }

. scripts/python-environments.sh

# Prints why Triton cannot run, or nothing. The process of a model needs the library of Python, and stands beside the backend.
triton_problem() {
    local home=$PEERS/triton packages libraries missing
    packages=$("$home/bin/python" -c 'import sysconfig as s; print(s.get_path("purelib"))')
    libraries=$("$home/bin/python" -c 'import sysconfig as s; print(s.get_config_var("LIBDIR"))')
    local server=$packages/pytriton/tritonserver
    cp "$server/python_backend_stubs/3.11/triton_python_backend_stub" "$server/backends/python/" || {
        echo "the package has no process for models of Python 3.11"
        return
    }
    missing=$(LD_LIBRARY_PATH=$libraries ldd "$server/bin/tritonserver" "$server/backends/python/"*triton_python* 2>&1 |
        awk '/not found/ { print $1 }' | sort -u | xargs)
    [[ -z "$missing" ]] || echo "libraries are missing: $missing"
}

python=$(python_311)
environment "$PEERS/mlserver" "${MLSERVER[@]}"
peers=(--peer mlserver)
if ! environment "$PEERS/triton" "${TRITON[@]}"; then
    say "Triton is left out: ${TRITON[0]} has no wheel for this machine, or it cannot be downloaded (see above)"
else
    problem=$(triton_problem)
    if [[ -n "$problem" ]]; then
        say "Triton is left out: $problem"
    else
        peers+=(--peer triton)
    fi
fi

models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT
"$PEERS/mlserver/bin/python" scripts/bench-serving-peers/make_models.py "$models" 20 200
PYTHONDONTWRITEBYTECODE=1 "$python" scripts/bench-serving-peers/compare.py "$program" --tools "$TOOLS" --models "$models" "${peers[@]}" "$@"
