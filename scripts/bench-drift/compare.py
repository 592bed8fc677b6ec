"""Runs `rekindle drift` and the Python tools on the same files, and prints medians, and ratios with their targets.

usage: compare.py PROGRAM --tools FOLDER --data FOLDER [--rows N...] [--only TOOL...] [--large]

The comparison favours the Python tools: rekindle's figures are of its whole process, start and output included; theirs
exclude imports and a first small call (see measure_tool.py). The caller restricts this script to one core; child
processes inherit the restriction.

Only the standard library is imported: the kernel initialises the peak memory of a child with that of its parent, so a
large parent would hide a small child. The memory of this script is printed as the floor.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

OURS = "rekindle"
SLOWEST = "evidently"
OTHERS = [SLOWEST, "alibi-detect", "whylogs"]
COLUMNS = 20
WARM_ROWS = 1_000
SLOW_ROWS = 1_000_000
LARGE_ROWS = 10_000_000
REPETITIONS = 3
SLOWEST_BAR, FASTEST_BAR = 50, 5
HERE = pathlib.Path(__file__).resolve().parent


def pair(options, rows):
    return [options.data / f"{rows}-{side}.parquet" for side in ("reference", "current")]


def python(options, tool):
    return options.tools / f"drift-{tool}/bin/python"


def run(command):
    """Runs a command and returns its output, its resource usage and its wall time; exits if the command fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            log = errors.read().decode(errors="replace")[-4000:]
            sys.exit(f"{' '.join(map(str, command))}: exited with {process.returncode}\n{log}")
        return output.read(), usage, wall


def measure_ours(options, rows):
    output, usage, wall = run([options.program, "drift", *pair(options, rows), "--json"])
    columns = json.loads(output)["columns"]
    return {
        "columns": len(columns),
        "drifted": sum(column["verdict"] == "drifted" for column in columns),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": wall,
        "peak_rss_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def measure_other(options, tool, rows):
    files = [*pair(options, rows), *pair(options, WARM_ROWS)]
    output, _, _ = run([python(options, tool), HERE / "measure_tool.py", tool, *files])
    # The tools may print lines of their own; the figures are the last line.
    return json.loads(output.splitlines()[-1])


def measure(options, tool, rows):
    figures = measure_ours(options, rows) if tool == OURS else measure_other(options, tool, rows)
    if figures["columns"] != COLUMNS:
        sys.exit(f"{tool} compared {figures['columns']} columns of {COLUMNS}")
    return figures


def repetitions(options, tool, rows):
    """The number of runs of a tool on a size; 0 leaves it out."""
    if tool == OURS:
        return REPETITIONS
    if rows >= LARGE_ROWS:
        return int(options.large and tool != SLOWEST)
    return 1 if tool == SLOWEST and rows >= SLOW_ROWS else REPETITIONS


def measure_size(options, rows):
    """The medians by tool. Each round runs all tools, so that other load on the machine affects them equally."""
    plan = {tool: repetitions(options, tool, rows) for tool in options.only}
    runs = {tool: [] for tool, times in plan.items() if times > 0}
    for turn in range(max(plan.values())):
        for tool in runs:
            if turn < plan[tool]:
                figures = measure(options, tool, rows)
                runs[tool].append(figures)
                print(json.dumps({"tool": tool, "rows": rows, "run": turn + 1} | figures), flush=True)
    return {tool: medians(of_tool) for tool, of_tool in runs.items()}


def medians(runs):
    numeric = [key for key, value in runs[0].items() if not isinstance(value, str)]
    return {key: statistics.median(figures[key] for figures in runs) for key in numeric} | {"runs": len(runs)}


def print_table(results):
    print(f"\n{'tool':<14}{'rows':>12}{'runs':>6}{'read':>9}{'drift':>9}{'both':>9}", end="")
    print(f"{'rows/s':>12}{'peak MB':>9}{'flagged':>9}")
    for rows, tools in results.items():
        for tool, figures in tools.items():
            read, drift = (f"{figures[key]:.2f}" if key in figures else "" for key in ("read_cpu_s", "drift_cpu_s"))
            print(
                f"{tool:<14}{rows:>12,}{figures['runs']:>6}{read:>9}{drift:>9}{figures['cpu_s']:>9.2f}"
                f"{rows / figures['cpu_s']:>12,.0f}{figures['peak_rss_mb']:>9.0f}{figures['drifted']:>9.0f}"
            )
    print("read, drift, both: CPU seconds, user and system, on one core. rows/s: rows of one file by CPU seconds of both.")
    print(f"flagged: columns of {COLUMNS} that the tool reports as drifted with its defaults; none has drifted.")


def print_left_out(options, results):
    for rows in results:
        if rows < LARGE_ROWS:
            continue
        if SLOWEST in options.only:
            known = max((size for size in results if SLOWEST in results[size]), default=None)
            cost = ""
            if known:
                times, figures = rows / known, results[known][SLOWEST]
                cost = (
                    f"; at {times:.0f} times its cost at {known:,} rows it would take "
                    f"{figures['cpu_s'] * times:,.0f} CPU seconds and {figures['peak_rss_mb'] * times / 1e3:.0f} GB"
                )
            print(f"{SLOWEST} is left out at {rows:,} rows{cost}")
        if not options.large and set(options.only) - {OURS, SLOWEST}:
            print(f"alibi-detect and whylogs are left out at {rows:,} rows; --large runs them")


def print_ratio(rows, name, other, ours, bar):
    print(
        f"{rows:>12,} rows: {name} takes {other['cpu_s'] / ours['cpu_s']:.1f} times the CPU of {OURS} (target {bar}); "
        f"its drift call alone, without reading, {other['drift_cpu_s'] / ours['cpu_s']:.1f} times"
    )


def print_ratios(results):
    print()
    for rows, tools in results.items():
        others = {tool: figures for tool, figures in tools.items() if tool != OURS}
        if OURS not in tools or not others:
            continue
        if SLOWEST in others:
            print_ratio(rows, SLOWEST, others[SLOWEST], tools[OURS], SLOWEST_BAR)
        fastest = min(others, key=lambda tool: others[tool]["cpu_s"])
        print_ratio(rows, f"the fastest, {fastest},", others[fastest], tools[OURS], FASTEST_BAR)
    peaks = {rows: tools[OURS]["peak_rss_mb"] for rows, tools in results.items() if OURS in tools}
    if peaks:
        print(f"peak memory of {OURS}: " + ", ".join(f"{peak:.1f} MB at {rows:,}" for rows, peak in peaks.items()))
    if {SLOW_ROWS, LARGE_ROWS} <= peaks.keys():
        ratio = peaks[LARGE_ROWS] / peaks[SLOW_ROWS]
        print(f"from {SLOW_ROWS:,} to {LARGE_ROWS:,} rows it grows {ratio:.2f} times (target: 1)")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the rekindle program")
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="the folder of the Python environments")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder of the files, which are written if missing")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, SLOW_ROWS, LARGE_ROWS], help="rows in each file")
    parser.add_argument("--only", nargs="+", choices=[OURS, *OTHERS], default=[OURS, *OTHERS], help="the tools to run")
    parser.add_argument("--large", action="store_true", help="also run alibi-detect and whylogs at 10,000,000 rows")
    return parser.parse_args()


def main():
    options = parse_options()
    load = os.getloadavg()[0]
    print(f"core {sorted(os.sched_getaffinity(0))} of {os.cpu_count()}, load average {load:.1f} at the start", flush=True)
    for rows in [WARM_ROWS, *options.rows]:
        run([python(options, SLOWEST), HERE / "make_data.py", options.data, str(rows)])
    results = {rows: measure_size(options, rows) for rows in sorted(options.rows)}
    print_table(results)
    print_left_out(options, results)
    print_ratios(results)
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"peaks below the memory of this script, {floor:.0f} MB, are reported as that")


main()
