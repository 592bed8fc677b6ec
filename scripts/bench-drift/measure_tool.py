"""Runs one Python drift tool on a pair of files, as in its documentation, and prints its costs as JSON.

usage: measure_tool.py TOOL REFERENCE CURRENT WARM_REFERENCE WARM_CURRENT

CPU seconds are user and system time of this process. Imports are excluded, and so is a first call on the small warm-up
pair, in which the tools complete their imports and fill their caches: this is the cost in a running process, the most
favourable measurement for the tool. Peak memory is of the whole process, imports and data included.
"""

import importlib.metadata
import json
import resource
import sys
import time
import warnings


def evidently():
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def compare(reference, current):
        result = Report([DataDriftPreset()]).run(current, reference).dict()
        values = {entry["metric_name"]: entry["value"] for entry in result["metrics"]}
        columns = sum(name.startswith("ValueDrift") for name in values)
        drifted = next(value["count"] for name, value in values.items() if name.startswith("DriftedColumnsCount"))
        return columns, int(drifted)

    return compare


def alibi_detect():
    import pandas
    from alibi_detect.cd import ChiSquareDrift, KSDrift

    def codes(frame, levels):
        """The categories as integers: ChiSquareDrift also accepts strings, at several times the cost."""
        return pandas.DataFrame({name: pandas.Categorical(frame[name], levels[name]).codes for name in levels}).to_numpy()

    def compare(reference, current):
        numeric = list(reference.select_dtypes("number").columns)
        levels = {name: sorted(reference[name].unique()) for name in reference.columns if name not in numeric}
        detectors = [
            (KSDrift(reference[numeric].to_numpy()), current[numeric].to_numpy()),
            (
                ChiSquareDrift(
                    codes(reference, levels),
                    categories_per_feature={n: len(known) for n, known in enumerate(levels.values())},
                ),
                codes(current, levels),
            ),
        ]
        results = [detector.predict(rows)["data"] for detector, rows in detectors]
        # The default threshold has the Bonferroni correction.
        return (
            sum(len(result["p_val"]) for result in results),
            int(sum((result["p_val"] < result["threshold"]).sum() for result in results)),
        )

    return compare


def whylogs():
    import whylogs as why
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    def compare(reference, current):
        scores = calculate_drift_scores(
            target_view=why.log(current).view(), reference_view=why.log(reference).view(), with_thresholds=True
        )
        scores = [score for score in scores.values() if score]
        return len(scores), sum(score["drift_category"] == "DRIFT" for score in scores)

    return compare


TOOLS = {"evidently": evidently, "alibi-detect": alibi_detect, "whylogs": whylogs}


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb():
    """The peak resident memory so far in MB of 10^6 bytes (Linux reports KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main():
    name, reference_path, current_path, *warm_paths = sys.argv[1:]
    warnings.simplefilter("ignore")
    import pandas

    compare = TOOLS[name]()
    compare(*map(pandas.read_parquet, warm_paths))
    start_cpu, start_mb, began = cpu_seconds(), peak_mb(), time.monotonic()

    reference, current = pandas.read_parquet(reference_path), pandas.read_parquet(current_path)
    read_cpu = cpu_seconds()
    columns, drifted = compare(reference, current)
    drift_cpu, ended = cpu_seconds(), time.monotonic()

    print(json.dumps({
        "tool": name,
        "version": importlib.metadata.version(name),
        "rows": len(reference),
        "columns": columns,
        "drifted": drifted,
        "start_cpu_s": start_cpu,
        "read_cpu_s": read_cpu - start_cpu,
        "drift_cpu_s": drift_cpu - read_cpu,
        "cpu_s": drift_cpu - start_cpu,
        "wall_s": ended - began,
        "start_rss_mb": start_mb,
        "peak_rss_mb": peak_mb(),
    }))


main()
