"""Loads of `rekindle bench`, which run beside a disturbance and can be ended with it."""

import contextlib
import json
import signal
import subprocess

from replica import MODEL, poll
from servers import Failure

WARM_UP_SECONDS = 1
# A load that is ended with its disturbance.
LONGEST_SECONDS = 600
# Beyond the planned end of a load: its start, and the time within which a request must be answered.
PATIENCE_SECONDS = 30
CONCURRENCY = 8


class Load:
    """An open loop in a process of its own. `seconds` is how long it measures, unless `end` is called before."""

    def __init__(self, started, seconds):
        self.started = started
        self.seconds = seconds

    def is_running(self):
        return self.started.poll() is None

    def end(self):
        """Sends no more requests, and waits for the answers to those in flight."""
        self.started.send_signal(signal.SIGINT)

    def figures(self):
        """The measurement, once the load has ended."""
        output, errors = self.started.communicate(timeout=WARM_UP_SECONDS + self.seconds + PATIENCE_SECONDS)
        return read(output, errors)


@contextlib.contextmanager
def open_loop(replica, rate, seed, seconds=LONGEST_SECONDS):
    """Yields a load from the end of its warm-up: when as many rows are answered as are due in the warm-up on average."""
    warm = replica.rows()["answered"] + rate * WARM_UP_SECONDS
    command = bench(replica, seconds, "--rate", f"{rate:.0f}", "--seed", seed)
    # In a session of its own: an interrupt of the terminal is for this program, which ends it.
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    load = Load(started, seconds)
    try:
        poll(lambda: not load.is_running() or replica.rows()["answered"] >= warm, "the warm-up", PATIENCE_SECONDS)
        yield load
    finally:
        started.kill()
        started.communicate()


def closed_loop(replica, seconds):
    """Requests per second that the replica and the load generator reach together."""
    command = bench(replica, seconds, "--concurrency", CONCURRENCY)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS)
    read(done.stdout, done.stderr)
    return json.loads(done.stdout)["requests_per_second"]


def bench(replica, seconds, *options):
    times = ["--warm-up", f"{WARM_UP_SECONDS}s", "--duration", f"{seconds}s"]
    command = [replica.program, "bench", "--json", "--url", replica.grpc, "--model", MODEL, *times, *options]
    return [str(word) for word in command]


def read(output, errors):
    """The figures of a report; requests without an answer are in it."""
    if not output:
        raise Failure(f"rekindle bench has no report:\n{errors}")
    report = json.loads(output)
    latency = report["latency_ms"]
    # Whatever the reason: refused, unanswered within the time, or not sent.
    failed = report["requests"] - report["answered"]
    return {
        "requests": report["requests"],
        "failed": failed,
        "p50 ms": latency["p50"],
        "p99 ms": latency["p99"],
        "seconds": round(report["seconds"], 2),
    } | ({"errors": report["errors"]} if failed else {})
