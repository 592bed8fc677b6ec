"""Writes integration-tests/data/onnx: small models from the usual converters, what ONNX Runtime answers, and files to refuse.

usage: onnx_fixtures.py [FOLDER]

needs: pip install onnxruntime onnx skl2onnx onnxmltools scikit-learn lightgbm xgboost

Each NAME.json has `inputs` (by feature: values of 64 rows; null is missing), `scores` (ONNX Runtime's, row by row) and `width`. The folder
`refused` has files that an import must refuse.
"""

import json
import pathlib
import sys

import lightgbm
import numpy as np
import onnx
import onnxruntime
import xgboost
from onnx import TensorProto, helper
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as MlFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

ROWS = 64
OPSET = {"": 17, "ai.onnx.ml": 3}
FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "data" / "onnx"

random = np.random.default_rng(0)
X = random.normal(size=(600, 4)).astype(np.float32)
LOGIT = X[:, 0] - 0.5 * X[:, 1] * X[:, 2] + 0.3 * random.normal(size=600)
BINARY = (LOGIT > 0).astype(np.int64)
NAMED = np.array(["high", "low", "middle"])[np.digitize(LOGIT, [-0.5, 0.5])]
NUMBER = (3.0 * LOGIT + 10.0).astype(np.float32)
COLOR = random.choice(["blue", "green", "red"], size=600)
MATRIX = [("X", FloatTensorType([None, 4]))]
WITHOUT_ZIPMAP = {"zipmap": False}


def save(name, model):
    """Without the names of the program that wrote it, so that the same model is the same file."""
    model.doc_string = ""
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())
    return model


def record(name, model, output, inputs=None, missing=()):
    save(name, model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if inputs is None:
        rows = X[:ROWS].copy()
        for row, column in missing:
            rows[row, column] = np.nan
        feed = {session.get_inputs()[0].name: rows}
        inputs = {f"f{column}": [None if np.isnan(v) else float(v) for v in rows[:, column]] for column in range(4)}
    else:
        feed = {key: np.array(values).reshape(-1, 1) for key, values in inputs.items()}
        feed = {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in feed.items()}
    (scores,) = session.run([output], feed)
    width = int(scores.size // ROWS)
    expected = {"width": width, "inputs": inputs, "scores": [float(score) for score in scores.reshape(-1)]}
    (FOLDER / f"{name}.json").write_text(json.dumps(expected))


def sklearn(name, estimator, target, output, options=WITHOUT_ZIPMAP):
    fitted = estimator.fit(X, target)
    options = {id(fitted): options} if options else None
    record(name, to_onnx(fitted, initial_types=MATRIX, options=options, target_opset=OPSET), output)


def pipeline():
    """One input per column: a number, a whole number and a text."""
    import pandas

    minutes = random.integers(0, 300, size=600)
    frame = pandas.DataFrame({"delay": X[:, 0], "minutes": minutes, "color": COLOR})
    encoder = ColumnTransformer([("n", StandardScaler(), ["delay"]), ("m", StandardScaler(), ["minutes"]),
                                 ("c", OneHotEncoder(handle_unknown="ignore"), ["color"])])
    fitted = Pipeline([("encode", encoder), ("predict", LogisticRegression())]).fit(frame, BINARY)
    types = [("delay", FloatTensorType([None, 1])), ("minutes", Int64TensorType([None, 1])),
             ("color", StringTensorType([None, 1]))]
    model = to_onnx(fitted, initial_types=types, options={id(fitted): WITHOUT_ZIPMAP}, target_opset=OPSET)
    color = [*COLOR[: ROWS - 1], "unseen"]
    record("sklearn_pipeline", model, "probabilities", {
        "delay": [float(v) for v in X[:ROWS, 0]], "minutes": [int(v) for v in minutes[:ROWS]], "color": color})


def network():
    """Gemm, Relu, Gemm with the log odds as its output, as PyTorch exports one."""
    tensors = {"w1": random.normal(size=(8, 4)), "b1": random.normal(size=8), "w2": random.normal(size=(1, 8)),
               "b2": random.normal(size=1)}
    initializers = [onnx.numpy_helper.from_array(value.astype(np.float32), key) for key, value in tensors.items()]
    nodes = [helper.make_node("Gemm", ["input", "w1", "b1"], ["h"], transB=1), helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("Gemm", ["r", "w2", "b2"], ["output"], transB=1)]
    return graph(nodes, initializers)


def graph(nodes, initializers=(), shape=("batch", 4), output=("batch", 1), domains=()):
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, list(output))
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(helper.make_graph(nodes, "g", [given], [made], list(initializers)), opset_imports=opsets,
                             ir_version=8)


def converters():
    sklearn("sklearn_logistic", LogisticRegression(), BINARY, "probabilities")
    sklearn("sklearn_linear", LinearRegression(), NUMBER, "variable", None)
    sklearn("sklearn_forest", RandomForestClassifier(8, max_depth=4, random_state=0), NAMED, "probabilities")
    sklearn("sklearn_forest_regressor", RandomForestRegressor(8, max_depth=4, random_state=0), NUMBER, "variable", None)
    sklearn("sklearn_boosting", GradientBoostingClassifier(n_estimators=8, random_state=0), BINARY, "probabilities")
    sklearn("sklearn_mlp", MLPClassifier((8,), random_state=0, max_iter=50), NAMED, "probabilities")
    sklearn("sklearn_svc", SVC(probability=True, random_state=0, C=0.1), BINARY, "probabilities")
    pipeline()
    types = [("X", MlFloat([None, 4]))]
    small = {"n_estimators": 8, "num_leaves": 8, "verbose": -1, "random_state": 0}
    gaps = [(0, 0), (1, 2), (2, 3)]
    classifier = lightgbm.LGBMClassifier(**small).fit(X, BINARY)
    record("lightgbm", convert_lightgbm(classifier, initial_types=types, zipmap=False, target_opset=15), "probabilities",
           missing=gaps)
    regressor = lightgbm.LGBMRegressor(**small).fit(X, NUMBER)
    record("lightgbm_regressor", convert_lightgbm(regressor, initial_types=types, target_opset=15), "variable",
           missing=gaps)
    small = {"n_estimators": 8, "max_depth": 3, "random_state": 0}
    classifier = xgboost.XGBClassifier(**small).fit(X, BINARY)
    record("xgboost", convert_xgboost(classifier, initial_types=types, target_opset=15), "probabilities", missing=gaps)
    regressor = xgboost.XGBRegressor(**small).fit(X, NUMBER)
    record("xgboost_regressor", convert_xgboost(regressor, initial_types=types, target_opset=15), "variable",
           missing=gaps)
    record("network_log_odds", network(), "output")


def refused():
    (FOLDER / "refused").mkdir(exist_ok=True)
    fitted = LogisticRegression().fit(X, BINARY)
    save("refused/zipmap", to_onnx(fitted, initial_types=MATRIX, target_opset=OPSET))
    save("refused/custom_operator", graph([helper.make_node("Twice", ["input"], ["output"], domain="com.example")],
                                          domains=["com.example"], output=("batch", 4)))
    save("refused/fixed_batch", graph([helper.make_node("Relu", ["input"], ["output"])], shape=(1, 4), output=(1, 4)))
    external = network()
    onnx.external_data_helper.set_external_data(external.graph.initializer[0], "../../etc/passwd", 0, 128)
    external.graph.initializer[0].ClearField("raw_data")
    save("refused/external_data", external)
    claim = network()
    claim.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    save("refused/gigantic_initializer", claim)
    claim = network()
    claim.graph.initializer[0].dims[:] = [1 << 20, 4]
    save("refused/short_initializer", claim)
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body",
                             [helper.make_tensor_value_info("i", TensorProto.INT64, []),
                              helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
                             [helper.make_tensor_value_info("d", TensorProto.BOOL, [])])
    save("refused/loop", graph([helper.make_node("Loop", ["", "", "input"], ["output"], body=body)],
                               output=("batch", 4)))
    # Each row is compared with the others: its answer depends on them.
    mean = helper.make_node("ReduceMean", ["input"], ["m"], axes=[0], keepdims=1)
    sub = helper.make_node("Sub", ["input", "m"], ["s"])
    total = helper.make_node("ReduceSum", ["s", "axis"], ["output"], keepdims=1)
    axis = onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    save("refused/batch_mean", graph([mean, sub, total], [axis]))
    # Small on disk, gigantic once it runs.
    shape = onnx.numpy_helper.from_array(np.array([1 << 20, 1 << 17], dtype=np.int64), "shape")
    fill = helper.make_node("ConstantOfShape", ["shape"], ["c"])
    total = helper.make_node("ReduceSum", ["c"], ["t"], keepdims=0)
    score = helper.make_node("ReduceSum", ["input", "axis"], ["r"], keepdims=1)
    save("refused/gigantic_when_run", graph([fill, total, score, helper.make_node("Add", ["r", "t"], ["output"])],
                                            [shape, axis]))


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    converters()
    refused()
