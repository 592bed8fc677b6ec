"""A worker outside of the platform: claims the trainings of a pool, fits scikit-learn or LightGBM, and completes them with ONNX.

usage: external_trainer.py HOST:PORT POOL [--trainings N] [--stall]

needs: pip install grpcio grpcio-reflection pandas pyarrow scikit-learn lightgbm skl2onnx onnxmltools

The messages come from the server's reflection, so that no code is generated. The parameter `learner` of the training is one of
`gradient_boosting` (the default), `lightgbm` and `logistic`; the other parameters are those of its estimator. With --stall the first claim is
neither renewed nor completed, as by a worker that is lost.
"""

import argparse
import io
import json
import threading

import grpc
import numpy as np
import pandas as pd
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

WORKERS = "rekindle.trainer.v1.Workers"
ARTIFACTS = "rekindle.registry.v1.Artifacts"
RUNS = "rekindle.registry.v1.Runs"
CHUNK = 1 << 20
# The value of the enumeration rekindle.trainer.v1.Task.
REGRESSION = 3
MAX_INFERRED_CLASSES = 20
LEARNERS = {
    "gradient_boosting": (GradientBoostingClassifier, GradientBoostingRegressor),
    "lightgbm": (LGBMClassifier, LGBMRegressor),
    "logistic": (LogisticRegression, LinearRegression),
}

update_registered_converter(
    LGBMClassifier,
    "LightGbmLGBMClassifier",
    calculate_linear_classifier_output_shapes,
    convert_lightgbm,
    options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
)
update_registered_converter(
    LGBMRegressor, "LightGbmLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm
)


class Platform:
    """Calls of the platform's services."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def method(self, service, name):
        """The function of a method, and the class of its requests."""
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
        factory = getattr(self.channel, "_".join(kind))
        call = factory(f"/{service}/{name}", request.SerializeToString, response.FromString)
        return call, request

    def call(self, service, name, **fields):
        call, request = self.method(service, name)
        return call(request(**fields))

    def download(self, digest):
        return b"".join(part.chunk for part in self.call(ARTIFACTS, "Download", digest=digest))

    def upload(self, data):
        call, request = self.method(ARTIFACTS, "Upload")
        parts = (request(chunk=data[at : at + CHUNK]) for at in range(0, len(data), CHUNK))
        return call(parts).digest


class Renewal:
    """Renews a claim while the training is in progress."""

    def __init__(self, platform, claim):
        self.platform, self.claim = platform, claim
        self.stop, self.cancelled = threading.Event(), False
        self.thread = threading.Thread(target=self.renew, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def renew(self):
        lease = self.claim.lease.seconds + self.claim.lease.nanos / 1e9
        while not self.stop.wait(lease / 3):
            try:
                self.cancelled |= self.platform.call(WORKERS, "RenewClaim", token=self.claim.token).cancelled
            except grpc.RpcError as error:
                # Another worker has it, or the platform restarts.
                self.cancelled |= error.code() == grpc.StatusCode.NOT_FOUND


def split(claim, rows):
    """The rows to train on and those to validate on, and the columns that are features."""
    recipe, time = claim.train.recipe, claim.time_column
    features = [name for name in rows.columns if name not in {recipe.target, time, *recipe.ignore}]
    rows = rows.dropna(subset=[recipe.target])
    if not time:
        held_out = int(len(rows) * (recipe.validation_share or 0.15))
        return rows[: len(rows) - held_out], rows[len(rows) - held_out :], features
    times = pd.to_datetime(rows[time], utc=True)
    if claim.train.HasField("train_until"):
        until = pd.Timestamp(claim.train.train_until.ToDatetime(), tz="UTC")
        rows, times = rows[times < until], times[times < until]
    validation = times >= pd.Timestamp(claim.validation_from.ToDatetime(), tz="UTC")
    return rows[~validation], rows[validation], features


def value(text):
    """A parameter: a number, a truth value, a list or another text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def estimator(parameters, is_number):
    parameters = {name: value(text) for name, text in parameters.items()}
    kinds = LEARNERS[parameters.pop("learner", "gradient_boosting")]
    return kinds[is_number](**parameters)


def is_quantity(recipe, target):
    """Whether the target is a number, and not a class: what the recipe says, or else the rule of the platform's own training."""
    if recipe.task:
        return recipe.task == REGRESSION
    if not pd.api.types.is_numeric_dtype(target) or pd.api.types.is_bool_dtype(target):
        return False
    limit = 2 if pd.api.types.is_float_dtype(target) else MAX_INFERRED_CLASSES
    return bool((target % 1 != 0).any()) or target.nunique() > limit


def names(target):
    """The names of the classes: whole numbers have no point."""
    return (target.astype("int64") if pd.api.types.is_float_dtype(target) else target).astype(str)


def fit(claim, rows):
    """The fitted pipeline as ONNX with one input per feature, its inputs that may be missing, its classes, its metrics, and the library."""
    train, validation, features = split(claim, rows)
    target = claim.train.recipe.target
    texts = [name for name in features if not pd.api.types.is_numeric_dtype(train[name])]
    numbers = [name for name in features if name not in texts]
    is_number = is_quantity(claim.train.recipe, rows[target].dropna())

    def prepared(part):
        columns = {name: part[name].astype(str) for name in texts}
        return pd.DataFrame(columns | {name: part[name].astype(np.float32) for name in numbers})[features]

    columns = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
            ("numbers", Pipeline([("missing", SimpleImputer(strategy="median")), ("scale", StandardScaler())]), numbers),
        ]
    )
    model = Pipeline([("columns", columns), ("learner", estimator(claim.train.external.parameters, is_number))])
    labels = train[target] if is_number else names(train[target])
    model.fit(prepared(train), labels)
    truth = validation[target] if is_number else names(validation[target])
    metrics = {"train_rows": len(train), "validation_rows": len(validation)}
    metrics["r2" if is_number else "accuracy"] = model.score(prepared(validation), truth)
    inputs = [(name, StringTensorType([None, 1]) if name in texts else FloatTensorType([None, 1])) for name in features]
    options = {} if is_number else {"options": {id(model): {"zipmap": False}}}
    converted = to_onnx(model, initial_types=inputs, target_opset={"": 17, "ai.onnx.ml": 3}, **options)
    classes = [] if is_number else [str(label) for label in model.classes_]
    library = "lightgbm" if type(model["learner"]).__module__.startswith("lightgbm") else "scikit-learn"
    # Only numbers may be missing: the converter has no missing texts.
    return converted.SerializeToString(), numbers, classes, metrics, library


def work(platform, claim):
    with Renewal(platform, claim) as renewal:
        rows = pd.read_parquet(io.BytesIO(platform.download(claim.blob_digest)))
        file, nullable, classes, metrics, library = fit(claim, rows)
        if renewal.cancelled:
            return {"run": claim.run_id, "cancelled": True}
        points = [{"name": name, "value": float(value), "step": 0} for name, value in metrics.items()]
        platform.call(RUNS, "LogMetrics", run_id=claim.run_id, metrics=points)
        digest = platform.upload(file)
        output = "variable" if not classes else "probabilities"
        done = platform.call(
            WORKERS,
            "CompleteJob",
            token=claim.token,
            file_digest=digest,
            nullable=nullable,
            classes=classes,
            output=output,
            outputs={"library": library},
        )
        return {"run": claim.run_id, "attempt": claim.attempt, "version": done.model_version, **metrics}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("pool")
    parser.add_argument("--trainings", type=int, default=0, help="end after so many; 0: never")
    parser.add_argument("--stall", action="store_true")
    arguments = parser.parse_args()
    platform, done, is_stalling = Platform(arguments.address), 0, arguments.stall
    while not arguments.trainings or done < arguments.trainings:
        answer = platform.call(WORKERS, "ClaimJob", pool=arguments.pool, wait={"seconds": 20})
        if not answer.HasField("claim"):
            continue
        if is_stalling:
            is_stalling = False
            continue
        try:
            print(json.dumps(work(platform, answer.claim)), flush=True)
        except Exception as error:
            # What the platform did not answer may succeed later, by this worker or another.
            retry = isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE
            words = f"{type(error).__name__}: {error}"
            platform.call(WORKERS, "FailJob", token=answer.claim.token, error=words, retry=retry)
            print(json.dumps({"run": answer.claim.run_id, "error": words}), flush=True)
        done += 1


if __name__ == "__main__":
    main()
