"""Logs with MLflow's unmodified client, and reads back what it has logged. Prints one JSON object.

usage: mlflow_tracking.py TRACKING_URI
"""

import json
import math
import os
import sys
import tempfile

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

POINTS = 10_000

# Standard output has the result alone.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def error(call):
    try:
        call()
    except MlflowException as problem:
        return {"code": problem.error_code, "message": str(problem)}
    return {"code": "none", "message": ""}


def main(uri):
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    found = {}

    experiment = mlflow.set_experiment("Team A / First try")
    found["again"] = mlflow.set_experiment("Team A / First try").experiment_id == experiment.experiment_id
    found["default"] = client.get_experiment("0").name

    with mlflow.start_run(run_name="first", tags={"team": "risk"}) as run:
        first = run.info.run_id
        mlflow.log_params({"layers": 2, "rate": 0.1, "the path": "a/b"})
        # Without a step: all of them are points of step 0.
        for value in (0.5, 0.25, math.nan, 0.75):
            mlflow.log_metric("loss", value)
        points = [Metric("auc", step / POINTS, 1_700_000_000_000 + step, step) for step in range(POINTS)]
        for start in range(0, POINTS, 1000):
            client.log_batch(first, metrics=points[start : start + 1000])
        client.log_batch(first, params=[Param("optimizer", "adam")], tags=[RunTag("draft", "yes")])
        mlflow.set_tag("note", "kept: ä 'quoted' \"twice\"")
        client.delete_tag(first, "draft")
        mlflow.log_text("hello\n", "notes/read me.txt")
        mlflow.log_dict({"a": [1, 2]}, "config.json")
        with tempfile.TemporaryDirectory() as folder:
            large = os.path.join(folder, "large.bin")
            with open(large, "wb") as file:
                file.write(os.urandom(1 << 20) * 20)
            mlflow.log_artifact(large, "files")
            with mlflow.start_run(run_name="part", nested=True) as part:
                mlflow.log_metric("auc", 0.5)
            found["parent"] = client.get_run(part.info.run_id).data.tags["mlflow.parentRunId"] == first
            there = mlflow.artifacts.download_artifacts(run_id=first, artifact_path="files/large.bin", dst_path=os.path.join(folder, "d"))
            with open(there, "rb") as one, open(large, "rb") as other:
                found["large"] = one.read() == other.read()
        found["running"] = client.get_run(first).info.status
    read = client.get_run(first)
    found["run"] = {
        "name": read.info.run_name,
        "status": read.info.status,
        "experiment": read.info.experiment_id == experiment.experiment_id,
        "ended": read.info.end_time >= read.info.start_time,
        "params": read.data.params,
        "tags": {name: value for name, value in read.data.tags.items() if not name.startswith("mlflow.")},
        "metrics": read.data.metrics,
    }
    history = client.get_metric_history(first, "auc")
    found["history"] = [(one.step, one.timestamp, one.value) for one in history] == [
        (one.step, one.timestamp, one.value) for one in points
    ]
    found["no step"] = [None if math.isnan(one.value) else one.value for one in client.get_metric_history(first, "loss")]
    found["files"] = sorted((file.path, file.is_dir, file.file_size) for file in client.list_artifacts(first))
    found["notes"] = [file.path for file in client.list_artifacts(first, "notes")]
    found["text"] = mlflow.artifacts.load_text(f"{read.info.artifact_uri}/notes/read me.txt")

    for number in range(25):
        with mlflow.start_run(run_name=f"number {number}"):
            mlflow.log_param("number", number)
            mlflow.log_metric("score", (number * 7) % 25)
    search = dict(experiment_ids=[experiment.experiment_id], output_format="list")
    best = mlflow.search_runs(filter_string="metrics.score >= 20 and params.number != '3'", order_by=["metrics.score DESC"], **search)
    found["best"] = [run.data.metrics["score"] for run in best]
    found["by name"] = [run.info.run_id == first for run in mlflow.search_runs(filter_string="run_name = 'first' and tags.team LIKE 'r%'", **search)]
    pages, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"], max_results=10, page_token=token)
        pages.append(len(page))
        token = page.token
        if not token:
            break
    found["pages"] = pages

    client.delete_run(best[0].info.run_id)
    found["deleted"] = len(mlflow.search_runs(filter_string="metrics.score = 24", **search))
    client.restore_run(best[0].info.run_id)
    found["restored"] = len(mlflow.search_runs(filter_string="metrics.score = 24", **search))
    with mlflow.start_run(run_id=first):
        mlflow.log_metric("later", 1.0, step=3)
    found["continued"] = [client.get_run(first).info.status, client.get_run(first).data.metrics["later"]]

    client.set_experiment_tag(experiment.experiment_id, "owner", "risk")
    client.rename_experiment(experiment.experiment_id, "Team A: second name")
    renamed = client.get_experiment_by_name("Team A: second name")
    found["renamed"] = [renamed.experiment_id == experiment.experiment_id, renamed.tags["owner"]]
    found["experiments"] = sorted(one.name for one in client.search_experiments())
    client.delete_experiment(experiment.experiment_id)
    found["left"] = sorted(one.name for one in client.search_experiments())
    found["errors"] = {
        "deleted experiment": error(lambda: client.create_run(experiment.experiment_id)),
        "no run": error(lambda: client.get_run("0" * 32)),
        "no experiment": error(lambda: client.get_experiment("77777")),
        "taken name": error(lambda: client.create_experiment("Default")),
        "param": error(lambda: client.log_param(first, "layers", 3)),
        "filter": error(lambda: client.search_runs(["0"], "metrics.auc >")),
        "trace": error(lambda: client.search_traces(locations=["0"])),
    }
    found["first"] = first
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
