"""Writes the networks of the comparison as ONNX files: FEATURES-64-32-1 with ReLU, one FP32 input `x` [n, FEATURES], output `y` [n, 1].

usage: make_models.py FOLDER FEATURES...

For each number of features, FOLDER/FEATURES.onnx is the network and FOLDER/FEATURES.json has an input row and the answer that ONNX
Runtime gives to it. The weights are random and depend on the number of features only.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HIDDEN = [64, 32]
# Of 2021, so that every runtime reads it.
OPSET, IR_VERSION = 14, 8


def network(features):
    random = numpy.random.default_rng(features)
    sizes = [features, *HIDDEN, 1]
    nodes, weights, values = [], [], "x"
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        scale = (2 / inputs) ** 0.5
        matrix = random.normal(0, scale, (inputs, outputs)).astype("float32")
        bias = random.normal(0, 0.1, outputs).astype("float32")
        weights += [numpy_helper.from_array(matrix, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        last = layer == len(HIDDEN)
        sums = "y" if last else f"sums{layer}"
        nodes.append(helper.make_node("Gemm", [values, f"w{layer}", f"b{layer}"], [sums]))
        if not last:
            values = f"hidden{layer}"
            nodes.append(helper.make_node("Relu", [sums], [values]))
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [tensor("x", TensorProto.FLOAT, ["n", features])],
        [tensor("y", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model, random.uniform(-1, 1, (1, features)).astype("float32")


def main():
    folder = pathlib.Path(sys.argv[1])
    for features in map(int, sys.argv[2:]):
        model, row = network(features)
        path = folder / f"{features}.onnx"
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        answer = session.run(["y"], {"x": row})[0]
        (folder / f"{features}.json").write_text(json.dumps({"x": row[0].tolist(), "y": float(answer[0, 0])}))


main()
