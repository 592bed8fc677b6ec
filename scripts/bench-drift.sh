#!/usr/bin/env bash
# Compares `rekindle drift` with Evidently, alibi-detect and whylogs on the same files: CPU seconds and peak memory.
#
# usage: bench-drift.sh PROGRAM [OPTION]...
#
# Options are passed to scripts/bench-drift/compare.py, e.g.:
#   --rows N...   rows in each file (default: 100000 1000000 10000000)
#   --large       alibi-detect and whylogs also at 10,000,000 rows (ten minutes more, 10 GB of memory)
#
# Everything runs with one thread on one core (the last one allowed, or BENCH_CORE). The first run installs the tools into
# .tools/drift-* (2.7 GB) and writes the files to target/bench-drift (2.3 GB); later runs reuse both. Prints a line per run, a
# table of medians, and the ratios with their targets. The exit code is 0 if all runs completed, whatever the ratios.
set -euo pipefail
[[ -x "${1:-}" ]] || { echo "usage: bench-drift.sh PROGRAM [OPTION]... (no program at '${1:-}')" >&2; exit 2; }
program=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS=.tools
DATA=target/bench-drift
# One version of pandas and pyarrow for all tools, so that reading costs each the same. alibi-detect limits them: it requires
# pandas < 3 and NumPy < 2, and newer versions of pyarrow require NumPy 2.
READERS=("pandas==2.3.3" "pyarrow==21.0.0" "scipy==1.17.1")

say() { printf 'bench-drift: %s\n' "$*"; }

. scripts/python-environments.sh

python=$(python_311)
environment "$TOOLS/drift-evidently" "evidently==0.7.23" "${READERS[@]}" "numpy==2.4.6" "scikit-learn==1.9.1"
environment "$TOOLS/drift-alibi-detect" "alibi-detect==0.13.0" "${READERS[@]}" "numpy==1.26.4" "scikit-learn==1.9.1"
environment "$TOOLS/drift-whylogs" "whylogs[viz]==1.6.4" "${READERS[@]}" "numpy==1.26.4"

# One core and one thread for every tool. The variables are for thread pools that ignore the CPU affinity.
last_allowed=$(taskset --cpu-list --pid $$ | sed 's/.*[ ,-]//')
core=${BENCH_CORE:-$last_allowed}
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export RAYON_NUM_THREADS=1 TOKIO_WORKER_THREADS=1
# Two of the tools send usage statistics on import, and the third warns about missing deep-learning libraries.
export DO_NOT_TRACK=1 WHYLOGS_NO_ANALYTICS=True TRANSFORMERS_VERBOSITY=error TRANSFORMERS_NO_ADVISORY_WARNINGS=1

taskset --cpu-list "$core" "$python" scripts/bench-drift/compare.py "$program" --tools "$TOOLS" --data "$DATA" "$@"
