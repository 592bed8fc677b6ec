"""Prints the scores of the live models beside those of the first model, from the summary of a demonstration.

usage: live.py SET SUMMARY.json
"""

import json
import sys


def main():
    name, path = sys.argv[1:]
    with open(path) as file:
        summary = json.load(file)
    trained = [workflow for workflow in summary["workflows"] if workflow["to_version"]]
    shipped = [workflow for workflow in trained if workflow["state"] == "SUCCEEDED"]
    scores = ", ".join(
        f"{metric} {summary['live'][metric]:.4g} live, {first:.4g} with the first model ({summary['live'][metric] / first - 1:+.1%})"
        for metric, first in (summary["static"] or {}).items()
    )
    counts = f"{len(trained)} trainings, {len(shipped)} rolled out, {summary['failed_requests']} failed requests"
    print(f"{name}: {scores or 'no redeployment'}; {counts}", flush=True)


if __name__ == "__main__":
    main()
