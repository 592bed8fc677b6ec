"""The disturbances. Each takes turns with the same load undisturbed, so that other programs on the machine affect both alike."""

import contextlib
import statistics
import time

import onnx_file
from replica import FEATURES, POLL_SECONDS, VERSIONS

LARGE = "large"
UNDISTURBED = "undisturbed"


def swaps(bench):
    """What answers alternates between two versions, for more turns than asked for until enough swaps are done. The commands take processor
    time by themselves, so that commands without a swap are measured too."""
    turn = done = 0
    while turn < bench.options.turns or done < bench.options.swaps:
        turn += 1
        undisturbed(bench, "swaps", turn, bench.options.seconds)
        repeated(bench, "commands", turn, lambda _: bench.replica.look())
        done += repeated(bench, "swaps", turn, lambda count: bench.replica.swap(VERSIONS[(count + 1) % 2]))
        bench.replica.swap(VERSIONS[0])
    bench.runs["commands"][UNDISTURBED] = bench.runs["swaps"][UNDISTURBED]
    bench.facts.append(f"swaps: {done} swaps between versions 1 and 2; version 2 is loaded each time")


def bus_stopped(bench):
    """The process of the bus stands still, and goes on during a second load, so that the rows that have waited are published beside it."""
    for turn in range(1, bench.options.turns + 1):
        undisturbed(bench, "bus stopped", turn, bench.options.seconds)
        with contextlib.ExitStack() as stack:
            with bench.replica.stopped_bus():
                with bench.load(turn, bench.options.bus_seconds) as load:
                    bench.record("bus stopped", turn, load.figures())
                load = stack.enter_context(bench.load(turn, bench.options.seconds))
            bench.record("bus goes on", turn, load.figures())
        # Until then the load would not be undisturbed.
        bench.print_line({"scenario": "prediction log", "turn": turn} | bench.replica.settled_rows())
        undisturbed(bench, "bus goes on", turn, bench.options.seconds)


def loading(bench):
    """A large model is imported, and then loaded by the replica. Every turn has another one, which no cache holds."""
    file = bench.folder / "large.onnx"
    for turn in range(1, bench.options.turns + 1):
        onnx_file.write(file, round(bench.options.onnx_mb * 1e6), FEATURES, turn)
        size = round(file.stat().st_size / 1e6, 1)
        undisturbed(bench, "import", turn, bench.options.seconds)
        imported = ["models", "import", LARGE, file, "--target", "y", "--task", "regression"]
        during(bench, "import", turn, lambda: bench.replica.run(*imported), onnx_mb=size)
        file.unlink()
        bench.replica.run("promote", LARGE, turn, "--why", "loading under load")
        undisturbed(bench, "loading", turn, bench.options.seconds)
        during(bench, "loading", turn, lambda: bench.replica.load(LARGE, turn), onnx_mb=size)
        bench.replica.wait_until_stable(LARGE)


def repeated(bench, scenario, turn, act):
    """Measures while something is done again and again, at the pace of the options. Returns how often it was done."""
    count, times = 0, []
    with bench.load(turn, bench.options.seconds) as load:
        due = time.monotonic()
        while load.is_running():
            began = time.monotonic()
            if began < due:
                time.sleep(POLL_SECONDS)
                continue
            act(count)
            count += 1
            times.append(time.monotonic() - began)
            due += bench.options.swap_interval
        bench.record(scenario, turn, load.figures(), count=count, ms_each=round(1000 * statistics.mean(times or [0]), 1))
    return count


def during(bench, scenario, turn, act, **facts):
    """Measures while something is done."""
    with bench.load(turn) as load:
        began = time.monotonic()
        act()
        spent = time.monotonic() - began
        load.end()
        bench.record(scenario, turn, load.figures(), took_s=round(spent, 2), **facts)


def undisturbed(bench, scenario, turn, seconds):
    with bench.load(turn, seconds) as load:
        bench.record(scenario, turn, load.figures(), state=UNDISTURBED)
