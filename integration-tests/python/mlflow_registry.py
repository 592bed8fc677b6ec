"""Trains, logs and registers models with MLflow's unmodified client, and reads them back. Prints one JSON object.

usage: mlflow_registry.py TRACKING_URI
"""

import json
import logging
import os
import sys
import tempfile
import warnings

import numpy as np
import onnx
import pandas as pd
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

# Standard output has the result alone.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

FEATURES = ["age", "income", "visits"]


def error(call):
    try:
        call()
    except MlflowException as problem:
        return {"code": problem.error_code, "message": str(problem)}
    return {"code": "none", "message": ""}


def rows(count, seed):
    """Rows of which the class depends on two columns."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(generator.normal(size=(count, 3)).astype(np.float32), columns=FEATURES)
    return frame, (frame["age"] - frame["visits"] + generator.normal(size=count) * 0.3 > 0).astype(int)


def network(width):
    """A network with more weights than ONNX keeps within the file if asked to."""
    generator = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
        for name, shape in [("w1", (3, width)), ("b1", (width,)), ("w2", (width, 1)), ("b2", (1,))]
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Gemm", ["positive", "w2", "b2"], ["y"]),
    ]
    tensor = lambda name, columns: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, columns])
    graph = helper.make_graph(nodes, "network", [tensor("x", 3)], [tensor("y", 1)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def autologged(client, run, flavor):
    """What autologging has written to a run."""
    read = client.get_run(run)
    models = [client.get_logged_model(output.model_id) for output in read.outputs.model_outputs]
    return {
        "params": sorted(read.data.params)[:1] != [],
        "metrics": sorted(read.data.metrics),
        "datasets": len(read.inputs.dataset_inputs),
        "models": [(model.status.value, flavor in [file.path for file in client.list_artifacts(run)] or model.name) for model in models],
    }


def main(uri):
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    found = {}
    mlflow.set_experiment("Churn")
    (train, labels), (test, truth) = rows(400, 1), rows(100, 2)

    # Autologging, with the model that it logs.
    mlflow.sklearn.autolog(log_datasets=True)
    with mlflow.start_run(run_name="sklearn") as run:
        classifier = LogisticRegression().fit(train, labels)
        classifier.score(test, truth)
    found["sklearn"] = autologged(client, run.info.run_id, "model")
    sklearn_model = client.get_run(run.info.run_id).outputs.model_outputs[0].model_id
    found["sklearn again"] = bool((mlflow.sklearn.load_model(f"models:/{sklearn_model}").predict(test) == classifier.predict(test)).all())
    mlflow.sklearn.autolog(disable=True)
    mlflow.lightgbm.autolog()
    with mlflow.start_run(run_name="lightgbm") as run:
        LGBMClassifier(n_estimators=5, verbose=-1).fit(train, labels, eval_set=[(test, truth)])
    found["lightgbm"] = autologged(client, run.info.run_id, "model")
    mlflow.lightgbm.autolog(disable=True)

    # A model in the ONNX format, registered when it is logged.
    exported = to_onnx(classifier, train.to_numpy()[:1], options={id(classifier): {"zipmap": False}})
    signature = infer_signature(train, pd.DataFrame({"left": labels}))
    with mlflow.start_run(run_name="onnx") as run:
        mlflow.log_metric("auc", 0.9)
        logged = mlflow.onnx.log_model(exported, name="model", signature=signature, registered_model_name="Churn (EU)")
        mlflow.log_metric("accuracy", classifier.score(test, truth), model_id=logged.model_id)
        dataset = mlflow.data.from_pandas(train, name="customers")
        mlflow.log_input(dataset, context="training")
        mlflow.log_metric("recall", 0.5, model_id=logged.model_id, dataset=dataset)
    version = client.get_model_version("Churn (EU)", "1")
    found["version"] = [version.status, version.status_message or "", version.run_id == run.info.run_id, version.source == f"models:/{logged.model_id}"]
    read = client.get_run(run.info.run_id)
    found["inputs"] = [(one.dataset.name, [tag.value for tag in one.tags]) for one in read.inputs.dataset_inputs]
    model = client.get_logged_model(logged.model_id)
    found["model metrics"] = sorted((metric.key, metric.dataset_name) for metric in model.metrics)
    found["model params"] = model.source_run_id == run.info.run_id
    loaded = mlflow.onnx.load_model("models:/Churn (EU)/1")
    found["the same file"] = loaded.SerializeToString() == exported.SerializeToString()

    # Weights beside the model, as MLflow writes them by default.
    with mlflow.start_run(run_name="network"):
        mlflow.onnx.log_model(
            network(64), name="network", registered_model_name="price", tags={"rekindle.target": "price", "rekindle.features": ",".join(FEATURES)}
        )
    client.set_registered_model_alias("price", "candidate", "1")
    found["network"] = client.get_model_version_by_alias("price", "candidate").status_message or ""

    # Another version, of a format that is kept and not served.
    second = mlflow.register_model(f"models:/{sklearn_model}", "Churn (EU)")
    found["pickle"] = [second.version, second.status, client.get_model_version("Churn (EU)", "2").status_message]
    found["by alias"] = []
    for number in ("1", "2", "1"):
        client.set_registered_model_alias("Churn (EU)", "champion", number)
        found["by alias"].append(client.get_model_version_by_alias("Churn (EU)", "champion").version)
    client.set_registered_model_tag("Churn (EU)", "team", "risk")
    client.set_model_version_tag("Churn (EU)", "1", "checked", "yes")
    client.update_registered_model("Churn (EU)", "who leaves")
    client.update_model_version("Churn (EU)", "1", "the first")
    model = client.get_registered_model("Churn (EU)")
    found["registered"] = [model.description, model.tags, model.aliases]
    version = client.get_model_version("Churn (EU)", "1")
    found["changed"] = [version.description, version.tags, list(version.aliases)]
    client.copy_model_version("models:/Churn (EU)/1", "Copy")
    found["copy"] = client.get_model_version("Copy", "1").status_message or ""
    found["names"] = [one.name for one in client.search_registered_models(order_by=["name DESC"])]
    found["like"] = [one.name for one in client.search_registered_models("name LIKE 'Churn%' AND tags.team = 'risk'")]
    found["versions"] = [one.version for one in client.search_model_versions("name = 'Churn (EU)'", order_by=["version_number ASC"])]
    found["of run"] = len(client.search_model_versions(f"run_id = '{run.info.run_id}'"))
    best = mlflow.search_logged_models(filter_string="metrics.accuracy > 0.5", order_by=[{"field_name": "metrics.accuracy", "ascending": False}], output_format="list")
    found["best"] = best[0].model_id == logged.model_id
    client.transition_model_version_stage("Churn (EU)", "1", "Production")
    found["stages"] = [one.version for one in client.get_latest_versions("Churn (EU)", ["Production"])]
    client.rename_registered_model("Copy", "Another copy")
    found["renamed"] = client.get_registered_model("Another copy").name
    found["held"] = error(lambda: client.delete_model_version("Churn (EU)", "1"))
    client.delete_registered_model("Another copy")
    client.delete_model_version("Churn (EU)", "2")
    found["left"] = [len(client.search_model_versions("name = 'Churn (EU)'")), [one.name for one in client.search_registered_models()]]
    client.delete_registered_model_alias("price", "candidate")
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{logged.model_id}", dst_path=folder)
        found["downloaded"] = "MLmodel" in os.listdir(path)
    # As mlflow.evaluate logs: metrics of a dataset and a table.
    with mlflow.start_run(run_name="evaluation") as run:
        mlflow.log_input(mlflow.data.from_pandas(test, name="test"), context="eval")
        mlflow.log_metrics({"accuracy_score": 0.9, "log_loss": 0.3})
        mlflow.log_table({"row": [1, 2], "score": [0.1, 0.9]}, "eval_results_table.json")
    found["table"] = len(mlflow.load_table("eval_results_table.json", run_ids=[run.info.run_id]))
    found["experiments"] = [one.name for one in client.search_experiments(filter_string="name LIKE 'Ch%'")]
    found["errors"] = {
        "no model": error(lambda: client.get_registered_model("nothing")),
        "taken": error(lambda: client.create_registered_model("price")),
        "no version": error(lambda: client.get_model_version("price", "7")),
        "no alias": error(lambda: client.get_model_version_by_alias("price", "candidate")),
        "alias": error(lambda: client.set_registered_model_alias("price", "Not allowed", "1")),
        "elsewhere": error(lambda: client.create_model_version("price", "s3://bucket/model")),
        "gone": error(lambda: client.get_model_version("Churn (EU)", "2")),
        "trace": error(lambda: client.search_traces(locations=["0"])),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
