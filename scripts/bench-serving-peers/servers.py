"""The servers of the comparison: each is started with both networks on free ports of the loopback interface, and ended with its processes.

Every server has one model per network, named `net20` for 20 features, and answers over gRPC and REST.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
START_SECONDS = 90
STOP_SECONDS = 30
# The largest difference between the answer of a server and that of ONNX Runtime.
TOLERANCE = 1e-5


class Failure(Exception):
    """A server that does not start or does not answer as it should."""


def model_name(features):
    return f"net{features}"


def free_ports(count):
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def call(command, **options):
    """Runs a command; its output is in the error if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=START_SECONDS, **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def process(command, folder, **options):
    """A server in a process group of its own, which is ended with all of its workers."""
    log = folder / "log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            [str(word) for word in command], cwd=folder, stdout=output, stderr=output, start_new_session=True, **options
        )
    try:
        yield started, log
    finally:
        stop(started)


def stop(started):
    """Asks the server to end, so that it removes its shared memory, and kills what is left of its group."""
    started.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def wait_until(is_ready, started, log):
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if started.poll() is not None or time.monotonic() > deadline:
            raise Failure(f"the server did not become ready\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)


def ask(url, body=None):
    """The answer of a REST server, as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        raise Failure(f"{url}: {error}: {error.read(1000).decode(errors='replace')}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"{url}: {error}") from error


def is_ready(url):
    try:
        ask(f"{url}/v2/health/ready")
    except Failure:
        return False
    return True


def check(url, features, known):
    """Compares an answer with that of ONNX Runtime."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, features], "data": known["x"]}
    answer = ask(f"{url}/v2/models/{model_name(features)}/infer", {"inputs": [tensor]})
    score = answer["outputs"][0]["data"][0]
    if abs(score - known["y"]) > TOLERANCE:
        raise Failure(f"{model_name(features)} answers {score}, expected {known['y']}")


class Rekindle:
    name = "rekindle"

    def __init__(self, program, tools):
        self.program = program
        library = tools / "lib/libonnxruntime.so"
        path = f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {"ORT_DYLIB_PATH": str(library)} | os.environ | {"PATH": path}

    @contextlib.contextmanager
    def serve(self, folder, models):
        """Yields the gRPC and the REST address."""
        data = folder / "data"
        endpoints = data / "endpoints.json"
        command = [self.program, "up", "--data-dir", data, "--free-ports"]
        with process(command, folder, env=self.environment) as (started, log):
            wait_until(lambda: endpoints.exists() and endpoints.stat().st_size > 0, started, log)
            addresses = json.loads(endpoints.read_text())
            client = [self.program, "--address", addresses["control"]]
            call([*client, "status", "--wait"])
            for features, file in models.items():
                name = model_name(features)
                call([*client, "models", "import", name, file, "--target", "y", "--task", "regression"])
                call([*client, "promote", name, "1", "--why", "comparison of servers"])
                call([*client, "deploy", name, "--wait"])
            yield f"http://{addresses['inference'][0]}", addresses["rest"][0]


class MlServer:
    """In one process and without adaptive batching, which is its best: with worker processes it answers about half as many requests, and
    with batches a fifth with one request in flight."""

    name = "MLServer"

    def __init__(self, home):
        self.home = home

    @contextlib.contextmanager
    def serve(self, folder, models):
        """Yields the gRPC and the REST address."""
        rest, grpc, metrics = free_ports(3)
        ports = {"http_port": rest, "grpc_port": grpc, "metrics_port": metrics}
        settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0} | ports
        (folder / "settings.json").write_text(json.dumps(settings))
        for features, file in models.items():
            place = folder / model_name(features)
            place.mkdir()
            (place / "model-settings.json").write_text(json.dumps(self.model(features, file)))
        environment = os.environ | {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
        with process([self.home / "bin/mlserver", "start", folder], folder, env=environment) as (started, log):
            url = f"http://127.0.0.1:{rest}"
            wait_until(lambda: is_ready(url), started, log)
            yield f"http://127.0.0.1:{grpc}", url

    @staticmethod
    def model(features, file):
        return {
            "name": model_name(features),
            "implementation": "mlserver_network.Network",
            "parameters": {"uri": str(file)},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, features]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        }


class Triton:
    """Its Python backend: with dynamic batching and two instances of each model, its best with many small requests in flight; or without
    batching and with one instance, as it is by default, its best with one."""

    configuration = """
backend: "python"
max_batch_size: 8192
input [ { name: "x" data_type: TYPE_FP32 dims: [ %d ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
    batching = """
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { }
"""
    no_batching = """
instance_group [ { kind: KIND_CPU count: 1 } ]
"""

    def __init__(self, home, name, scheduling):
        self.home = home
        self.name = name
        self.scheduling = scheduling

    @contextlib.contextmanager
    def serve(self, folder, models):
        """Yields the gRPC and the REST address."""
        rest, grpc = free_ports(2)
        repository = folder / "models"
        for features, file in models.items():
            version = repository / model_name(features) / "1"
            version.mkdir(parents=True)
            shutil.copy(file, version / "model.onnx")
            shutil.copy(HERE / "triton_network.py", version / "model.py")
            (version.parent / "config.pbtxt").write_text(self.configuration % features + self.scheduling)
        paths = "import sysconfig as s; print(s.get_path('purelib')); print(s.get_config_var('LIBDIR'))"
        packages, library = call([self.home / "bin/python", "-c", paths]).split()
        server = pathlib.Path(packages, "pytriton/tritonserver")
        command = [
            server / "bin/tritonserver",
            f"--model-repository={repository}",
            f"--backend-directory={server / 'backends'}",
            *(f"--{protocol}-address=127.0.0.1" for protocol in ("http", "grpc")),
            f"--http-port={rest}",
            f"--grpc-port={grpc}",
            "--allow-metrics=false",
        ]
        environment = os.environ | {
            "PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": packages,
            "LD_LIBRARY_PATH": library,
        }
        with process(command, folder, env=environment) as (started, log):
            url = f"http://127.0.0.1:{rest}"
            wait_until(lambda: is_ready(url), started, log)
            yield f"http://127.0.0.1:{grpc}", url
