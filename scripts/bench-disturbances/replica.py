"""`rekindle up` with one replica that serves a small network, and what the benchmark asks and changes there with the commands of the
program.

The model `numbers` has 20 numeric features and two versions, networks of the same size; version 1 is deployed.
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
import urllib.request

from servers import Failure, Rekindle, process, wait_until

MODEL = "numbers"
FEATURES, ROWS = 20, 2000
VERSIONS = (1, 2)
EPOCHS = 3
# Of one command; checking and loading a large model takes most.
COMMAND_SECONDS = 300
# For the prediction log to be complete once nobody sends requests.
LOG_SECONDS = 120
POLL_SECONDS = 0.02
ANSWERED = "rekindle_inference_rows_total"
LOGGED = ("rekindle_monitor_predictions_total", "rekindle_monitor_test_rows_total")
LOST = "rekindle_monitor_lost_rows_total"


class Replica:
    """A running platform. `grpc` is the address of its replica."""

    def __init__(self, program, started, endpoints):
        self.program = program
        self.started = started
        self.control = endpoints["control"]
        self.metrics_url = f"{endpoints['admin']}/metrics"
        self.grpc = f"http://{endpoints['inference'][0]}"

    def run(self, *arguments):
        """Runs a command of the program; its output is in the error if it fails. It has the lowest priority: at another machine, where a
        user would run it, it would take no processor time of the replica."""
        command = [str(word) for word in ["nice", "-n", "19", self.program, "--address", self.control, *arguments]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
        if done.returncode != 0:
            raise Failure(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def run_json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    def swap(self, version):
        """Sends the requests of the model to a version (all but one in 10,000, if it is the second), and waits until the replica does so.
        `rekindle deploy` observes each version for five seconds, in which the next one cannot be deployed."""
        shares = [] if version == VERSIONS[0] else ["--canary", f"{version}=99.99%"]
        generation = int(self.run_json("traffic", MODEL, *shares)["generation"])
        poll(lambda: int(self.served(MODEL).get("generation", 0)) >= generation, f"the swap to version {version}")

    def look(self):
        """Runs the commands of a swap without changing anything."""
        self.run_json("deployments", "show", MODEL)
        self.served(MODEL)

    def load(self, model, version):
        """Deploys a version, and waits until the replica reports that it has loaded it. The rollout goes on."""
        self.run("deploy", model, "--version", version)
        poll(lambda: (self.served(model).get("serving") or {}).get("version") == version, f"version {version} of {model}")

    def wait_until_stable(self, model):
        """Waits until no rollout of the model goes on."""

        def is_stable():
            return self.run_json("deployments", "show", model)["deployment"]["phase"] == "DEPLOYMENT_PHASE_STABLE"

        poll(is_stable, f"the rollout of {model}")

    def served(self, model):
        """What the replica reports of a model; empty if it does not know it yet."""
        (replica,) = self.run_json("replicas")
        served = next((served for served in replica["models"] if served["model"] == model), {})
        if served.get("failure"):
            raise Failure(f"the replica cannot serve {model}: {served['failure']}")
        return served

    def rows(self):
        """Rows answered, logged and declared lost since the start, of all models, by the metrics of the platform."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as response:
            text = response.read().decode()
        sums = {}
        for name, count in re.findall(r"^(\w+)(?:\{.*\})? (\d+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0) + int(count)
        logged = sum(sums.get(name, 0) for name in LOGGED)
        return {"answered": sums.get(ANSWERED, 0), "logged": logged, "lost": sums.get(LOST, 0)}

    def settled_rows(self):
        """The rows once all that are answered are logged or declared lost, and `equal`: whether that came to be."""

        def is_complete(rows):
            return rows["logged"] + rows["lost"] == rows["answered"]

        with contextlib.suppress(Failure):
            poll(lambda: is_complete(self.rows()), "the prediction log", LOG_SECONDS)
        rows = self.rows()
        return rows | {"equal": is_complete(rows)}

    @contextlib.contextmanager
    def stopped_bus(self):
        """Stops the process of the bus, without ending it, during the block."""
        pid = self.nats_server()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def nats_server(self):
        command = ["pgrep", "-P", str(self.started.pid), "-f", "nats-server"]
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        if len(found) != 1:
            raise Failure(f"expected one nats-server of process {self.started.pid}, found {found}")
        return int(found[0])


def poll(is_so, what, seconds=COMMAND_SECONDS):
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise Failure(f"{what} took longer than {seconds} s")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def serve(program, tools, folder):
    """Yields a replica that serves version 1 of the model, with all its files in the folder."""
    data = folder / "data"
    endpoints = data / "endpoints.json"
    command = [program, "up", "--data-dir", data, "--free-ports"]
    with process(command, folder, env=Rekindle(program, tools).environment) as (started, log):
        wait_until(lambda: endpoints.exists() and endpoints.stat().st_size > 0, started, log)
        replica = Replica(program, started, json.loads(endpoints.read_text()))
        replica.run("status", "--wait")
        table = folder / "numbers.csv"
        write_table(table)
        replica.run("dataset", "register", MODEL, table, "--time", "t")
        for seed in VERSIONS:
            training = ["--architecture", "mlp", "--epochs", EPOCHS, "--seed", seed, "--model", MODEL, "--wait"]
            replica.run("train", MODEL, "--target", "y", "--ignore", "t", *training)
        replica.run("promote", MODEL, VERSIONS[0], "--why", "first version")
        replica.run("deploy", MODEL, "--wait")
        yield replica


def write_table(path):
    """Normal numbers, a target that depends on the first five, and a row a minute."""
    draw = random.Random(1)
    with path.open("w") as file:
        file.write(",".join(["t", *(f"c{column}" for column in range(FEATURES)), "y"]) + "\n")
        for row in range(ROWS):
            values = [draw.gauss(0, 1) for _ in range(FEATURES)]
            target = sum(values[:5]) + draw.gauss(0, 0.1)
            time_of_row = f"2026-01-{1 + row // 1440:02}T{row // 60 % 24:02}:{row % 60:02}:00Z"
            file.write(",".join([time_of_row, *(f"{number:.5f}" for number in [*values, target])]) + "\n")
