"""Runs rekindle, MLServer and Triton with the same networks as ONNX files and the same loads of `rekindle bench`, and prints a table.

usage: compare.py PROGRAM --tools FOLDER --models FOLDER --peer NAME... [--turns N] [--seconds N] [--only NAME...]

One server runs at a time, beside the load generator. In each turn every server is started, its answers are compared with those of ONNX
Runtime, and it gets every load; the table has the medians of the turns. Other programs that run on the machine lower all figures.
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

from servers import Failure, MlServer, Rekindle, Triton, check, model_name

OURS = "rekindle"
PEERS = {
    "mlserver": lambda home: [MlServer(home)],
    "triton": lambda home: [Triton(home, "Triton", Triton.batching), Triton(home, "Triton, unbatched", Triton.no_batching)],
}
# Rows of a request, features of a row, requests in flight.
LOADS = [(1, 20, 1), (1, 20, 64), (32, 200, 8), (1000, 20, 8), (1000, 200, 8)]
# The least requests/s beside those of a peer, for one row and for more.
TARGETS = {"MLServer": (20, None), "Triton": (5, 1)}
WARM_UP = "1s"
FIGURES = ["requests/s", "p50 ms", "p99 ms"]


def load(options, address, rows, features, in_flight):
    """The report of one load; requests that fail are in it."""
    command = [options.program, "bench", "--json", "--url", address, "--model", model_name(features)]
    command += ["--rows", str(rows), "--concurrency", str(in_flight)]
    command += ["--duration", f"{options.seconds}s", "--warm-up", WARM_UP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 60)
    if not done.stdout:
        raise Failure(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    report = json.loads(done.stdout)
    latency = report["latency_ms"]
    figures = dict(zip(FIGURES, (round(report["requests_per_second"], 1), latency["p50"], latency["p99"])))
    return figures | {"bytes": report["request_bytes"], "failed": report["failed"], "errors": report["errors"]}


def turn(options, server, models, runs):
    """Starts a server, measures every load and ends it."""
    with tempfile.TemporaryDirectory(prefix="bench-serving-peers-") as folder:
        with server.serve(pathlib.Path(folder), models) as (grpc, rest):
            for features in models:
                check(rest, features, json.loads((options.models / f"{features}.json").read_text()))
            for one in LOADS:
                figures = load(options, grpc, *one)
                rows, features, in_flight = one
                shown = {"server": server.name, "rows": rows, "features": features, "in_flight": in_flight}
                print(json.dumps(shown | figures), flush=True)
                runs.setdefault(one, {}).setdefault(server.name, []).append(figures)


def measure(options, servers):
    """The runs by load and server, and the reasons of the servers that failed. Each turn runs all servers, so that other programs on the
    machine disturb them alike."""
    models = {features: options.models / f"{features}.onnx" for features in sorted({load[1] for load in LOADS})}
    runs, failed = {}, {}
    for _ in range(options.turns):
        for server in servers:
            if server.name in failed:
                continue
            try:
                turn(options, server, models, runs)
            except (Failure, OSError, subprocess.SubprocessError) as failure:
                failed[server.name] = str(failure)
                print(f"{server.name} failed: {failure}", flush=True)
    return runs, failed


def print_table(runs):
    """The medians, and the requests/s of rekindle divided by those of each peer."""
    print(f"\n{'rows':>5}{'features':>9}{'in flight':>10}  {'server':<19}{'request bytes':>13}{'requests/s':>12}", end="")
    print(f"{'rows/s':>11}{'p50 ms':>8}{'p99 ms':>8}{'failed':>8}{'rekindle/it':>13}{'target':>8}")
    for (rows, features, in_flight), servers in runs.items():
        ours = statistics.median(run["requests/s"] for run in servers[OURS]) if OURS in servers else None
        for name, of_server in servers.items():
            rate, p50, p99 = (statistics.median(run[figure] for run in of_server) for figure in FIGURES)
            size, failed = of_server[0]["bytes"], sum(run["failed"] for run in of_server)
            print(f"{rows:>5}{features:>9}{in_flight:>10}  {name:<19}{size:>13,}{rate:>12,.0f}", end="")
            print(f"{rate * rows:>11,.0f}{p50:>8.2f}{p99:>8.2f}{failed:>8}{ratio(name, ours, rate):>13}{target(name, rows):>8}")


def ratio(name, ours, rate):
    return f"{ours / rate:.2f}" if ours and rate and name != OURS else ""


def target(name, rows):
    """Every configuration of a peer has its target."""
    single, several = TARGETS.get(name.split(",")[0], (None, None))
    return str((single if rows == 1 else several) or "")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the rekindle program")
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="the folder of nats-server and of ONNX Runtime")
    parser.add_argument("--models", type=pathlib.Path, required=True, help="the folder of the networks")
    parser.add_argument("--peer", choices=PEERS, action="append", default=[], help="a peer that is installed in TOOLS/peers")
    parser.add_argument("--turns", type=int, default=3, help="turns of each server")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each load in each turn")
    parser.add_argument("--only", nargs="+", choices=[OURS, *PEERS], default=[OURS, *PEERS], help="the servers to run")
    return parser.parse_args()


def print_load_average(when):
    print(f"{os.cpu_count()} processors, load average of the last minute {os.getloadavg()[0]:.1f} {when}", flush=True)


def main():
    options = parse_options()
    servers = [Rekindle(options.program, options.tools)] if OURS in options.only else []
    for name in options.peer:
        if name in options.only:
            servers += PEERS[name](options.tools / "peers" / name)
    # Servers are ended on both signals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    print_load_average("at the start (other programs, if it is above 0.1: they lower the figures)")
    runs, failed = measure(options, servers)
    print_table(runs)
    print(f"Medians of {options.turns} turns of {options.seconds} s over gRPC, the load generator on the same processors.")
    print("Requests have the tensors that the metadata of the server declares: one FP64 tensor per feature for rekindle, which logs")
    print("them too, and one FP32 tensor for its peers. Triton runs the network with ONNX Runtime in its Python backend: its package")
    print("has no other.")
    print_load_average("at the end")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
