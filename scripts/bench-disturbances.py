#!/usr/bin/env python3
"""Latency of a replica under an open loop while it is disturbed: versions are swapped, the bus stands still, a large model is loaded.

usage: bench-disturbances.py PROGRAM [OPTION]...

Starts `rekindle up` with one replica in a temporary folder, trains two versions of a small network, and sends requests of one row at the
times of a Poisson process with `rekindle bench`: the latency of a request counts from the time at which it is due. Scenarios:

  swaps        the version that answers alternates between the two (`rekindle traffic`), by default four times a second
  commands     as many commands that change nothing, to see what the commands take by themselves
  bus stopped  nats-server has got SIGSTOP
  bus goes on  it gets SIGCONT at the start of the measurement, and the rows that have waited are logged
  import       an ONNX file is uploaded and checked (`rekindle models import`)
  loading      its version is deployed, until the replica reports that it is loaded

Each scenario takes turns with the same load undisturbed. Prints a JSON line per measurement, a table with the medians of the turns, and
whether every row that was answered is logged or declared lost in the end. The load generator and the commands of the program share the
processors with the replica, and other programs on the machine raise all latencies. The exit code is 1 if a scenario was not measured, a
request failed or a row is missing in the prediction log; a ratio above its target is marked and changes no exit code.

ONNX Runtime and nats-server are those of .tools: scripts/install-tools.sh nats onnx
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE / "bench-disturbances"), str(HERE / "bench-serving-peers")]

import loads
import replica
import scenarios
from servers import Failure

SCENARIOS = {"swaps": scenarios.swaps, "bus": scenarios.bus_stopped, "loading": scenarios.loading}
# The largest p99 beside that of the same load undisturbed.
TARGETS = {"swaps": 1.5, "loading": 1.2}
DISTURBED = "disturbed"


class Bench:
    """A replica and what was measured there: `runs` by scenario and by whether it was disturbed."""

    def __init__(self, options, running, folder, rate):
        self.options = options
        self.replica = running
        self.folder = folder
        self.rate = rate
        self.runs = {}
        self.facts = []
        # Those of the prediction log in the end.
        self.rows = None

    def load(self, seed, *seconds):
        return loads.open_loop(self.replica, self.rate, seed, *seconds)

    def record(self, scenario, turn, figures, state=DISTURBED, **facts):
        self.runs.setdefault(scenario, {}).setdefault(state, []).append(figures)
        self.print_line({"scenario": scenario, "turn": turn, "state": state} | figures | facts)

    def print_line(self, line):
        print(json.dumps(line), flush=True)

    def failed(self):
        """Requests without an answer; none may be."""
        return sum(run["failed"] for states in self.runs.values() for runs in states.values() for run in runs)


def measure(options, folder):
    """What was measured, and the reasons of the scenarios that were not."""
    failures = []
    with replica.serve(options.program, options.tools, folder) as running:
        most = loads.closed_loop(running, options.seconds)
        rate = options.rate or most / 4
        print(f"closed loop with {loads.CONCURRENCY} requests in flight: {most:,.0f} requests/s; open loop: {rate:,.0f}", flush=True)
        bench = Bench(options, running, folder, rate)
        for name in options.only:
            try:
                SCENARIOS[name](bench)
            except (Failure, OSError, subprocess.SubprocessError) as failure:
                failures.append(name)
                print(f"{name} failed: {failure}", flush=True)
        bench.rows = running.settled_rows()
    return bench, failures


def print_table(runs):
    """The medians of the turns, and the disturbed p99 divided by the undisturbed."""
    states = f"{'undisturbed':>14}{'disturbed':>11}"
    print(f"\n{'scenario':<13}{'requests':>10}{'failed':>8}{'p50 ms:':>10}{states}{'p99 ms:':>10}{states}{'ratio':>8}{'target':>8}")
    for scenario, by_state in runs.items():
        if len(by_state) < 2:
            continue
        before, during = by_state[scenarios.UNDISTURBED], by_state[DISTURBED]
        requests, failed = (sum(run[name] for run in before + during) for name in ("requests", "failed"))
        print(f"{scenario:<13}{requests:>10,}{failed:>8}", end="")
        for figure in ("p50 ms", "p99 ms"):
            medians = [statistics.median(run[figure] for run in state) for state in (before, during)]
            print(f"{'':>10}{medians[0]:>14.2f}{medians[1]:>11.2f}", end="")
        print(f"{medians[1] / medians[0]:>8.2f}{target(scenario, medians[1] / medians[0])}")


def target(scenario, ratio):
    if scenario not in TARGETS:
        return ""
    return f"{TARGETS[scenario]:>8}" + (" (above it)" if ratio > TARGETS[scenario] else "")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the rekindle program")
    parser.add_argument("--tools", type=pathlib.Path, default=HERE.parent / ".tools", help="where nats-server and ONNX Runtime are")
    parser.add_argument("--turns", type=at_least_one, default=3, help="turns of each scenario (default: 3)")
    parser.add_argument("--seconds", type=at_least_one, default=10, help="seconds of a measurement (default: 10)")
    parser.add_argument("--bus-seconds", type=at_least_one, default=60, help="seconds for which the bus stands still (default: 60)")
    parser.add_argument("--rate", type=float, help="requests per second (default: a quarter of what a closed loop reaches)")
    parser.add_argument("--swaps", type=int, default=100, help="the least number of swaps in all turns (default: 100)")
    parser.add_argument("--swap-interval", type=float, default=0.25, help="seconds from swap to swap (default: 0.25; 0: no pause)")
    parser.add_argument("--onnx-mb", type=float, default=500, help="size of the ONNX file in 10^6 bytes (default: 500)")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=[*SCENARIOS], help="the scenarios to run (default: all)")
    options = parser.parse_args()
    if not options.program.is_file():
        parser.error(f"no program at {options.program}")
    options.program = options.program.resolve()
    return options


def at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return number


def print_load_average(when):
    print(f"{os.cpu_count()} processors, load average of the last minute {os.getloadavg()[0]:.1f} {when}", flush=True)


def terminate(*_):
    """Ends the program once; what it started is ended on the way."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    sys.exit("terminated")


def main():
    options = parse_options()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, terminate)
    print_load_average("at the start (other programs, if it is above 0.1: they raise the latencies)")
    with tempfile.TemporaryDirectory(prefix="bench-disturbances-") as folder:
        try:
            bench, failures = measure(options, pathlib.Path(folder))
        except (Failure, OSError, subprocess.SubprocessError) as failure:
            sys.exit(f"the platform failed: {failure}")
    print_table(bench.runs)
    print(f"Medians of the turns over gRPC, one row a request, {bench.rate:,.0f} requests/s. The load generator shares the processors with")
    print("the replica, and so do the commands that disturb it, with the lowest priority.")
    logged, lost, answered = (f"{bench.rows[name]:,}" for name in ("logged", "lost", "answered"))
    relation = "equal to" if bench.rows["equal"] else "NOT EQUAL TO"
    for fact in bench.facts:
        print(fact)
    print(f"prediction log: {logged} rows logged + {lost} declared lost, {relation} the {answered} rows answered")
    print_load_average("at the end")
    if failures:
        sys.exit(f"not measured: {', '.join(failures)}")
    if bench.failed() or not bench.rows["equal"]:
        sys.exit("requests failed or rows are missing in the prediction log")


main()
