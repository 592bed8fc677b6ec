#!/usr/bin/env bash
# `rekindle drift` beside Evidently, alibi-detect and whylogs, on the same files, in one run: CPU seconds and peak memory.
#
# usage: bench-drift.sh PROGRAM [OPTION]...
#
# Options go to scripts/bench-drift/compare.py; the two that matter:
#   --rows N...   rows in each file; 100000 1000000 10000000 when not given
#   --large       alibi-detect and whylogs also at 10,000,000 rows (ten minutes more, 10 GB of memory)
#
# Everything runs on one core (the last one allowed, or BENCH_CORE) and with one thread. The first run installs the tools
# into .tools/drift-* (2.7 GB) and writes the files to target/bench-drift (2.3 GB, most of it the largest size); both
# stay. Prints a line per run, a table of medians, and the ratios beside their bars. The exit code says whether all ran,
# not how the ratios came out.
set -euo pipefail
[[ -x "${1:-}" ]] || { echo "usage: bench-drift.sh PROGRAM [OPTION]... (no program at '${1:-}')" >&2; exit 2; }
program=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS=.tools
DATA=target/bench-drift
# One pandas and one pyarrow for all, so that reading costs each tool the same. alibi-detect decides which: it needs pandas
# before 3 and NumPy before 2, and pyarrow has come to need NumPy 2.
READERS=("pandas==2.3.3" "pyarrow==21.0.0" "scipy==1.17.1")

say() { printf 'bench-drift: %s\n' "$*"; }

# The pins have wheels for this version alone in common (numba 0.59 ends at 3.12, scipy 1.17 begins at 3.11).
python_311() {
    local candidate
    for candidate in python3.11 python3; do
        if [[ "$("$candidate" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)" == "(3, 11)" ]]; then
            echo "$candidate"
            return
        fi
    done
    say "Python 3.11 is missing, which the pinned versions of the tools need" >&2
    exit 1
}

# One environment per tool, for their versions of NumPy exclude each other: environment NAME PACKAGE...
environment() {
    local name=$1 home="$TOOLS/drift-$1" wanted
    shift
    wanted="$*"
    if [[ "$(cat "$home/.complete" 2>/dev/null)" == "$wanted" ]]; then
        say "$1 is there"
        return
    fi
    say "installing $wanted"
    rm -rf "$home"
    # Without pip, and with the pip outside: Debian's python3 can do that without python3-venv.
    "$python" -m venv --without-pip "$home"
    "$python" -m pip --python "$home/bin/python" install --quiet --disable-pip-version-check "$@"
    echo "$wanted" >"$home/.complete"
}

python=$(python_311)
environment evidently "evidently==0.7.23" "${READERS[@]}" "numpy==2.4.6" "scikit-learn==1.9.1"
environment alibi-detect "alibi-detect==0.13.0" "${READERS[@]}" "numpy==1.26.4" "scikit-learn==1.9.1"
environment whylogs "whylogs[viz]==1.6.4" "${READERS[@]}" "numpy==1.26.4"

# Everyone gets one core and one thread. The thread counts are for the pools that do not look at the cores allowed.
last_allowed=$(taskset --cpu-list --pid $$ | sed 's/.*[ ,-]//')
core=${BENCH_CORE:-$last_allowed}
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export RAYON_NUM_THREADS=1 TOKIO_WORKER_THREADS=1
# Two of the tools report their use when imported, and the third looks for a deep-learning library and says so.
export DO_NOT_TRACK=1 WHYLOGS_NO_ANALYTICS=True TRANSFORMERS_VERBOSITY=error TRANSFORMERS_NO_ADVISORY_WARNINGS=1

taskset --cpu-list "$core" "$python" scripts/bench-drift/compare.py "$program" --tools "$TOOLS" --data "$DATA" "$@"
