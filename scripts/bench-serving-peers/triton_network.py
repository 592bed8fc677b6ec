"""A model of Triton's Python backend: a network with ONNX Runtime, on one thread of each instance. A batch of requests is one call."""

import pathlib

import numpy
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = pathlib.Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        inputs = [backend.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        rows = inputs[0] if len(inputs) == 1 else numpy.concatenate(inputs)
        scores = self.session.run(["y"], {"x": rows})[0]
        ends = numpy.cumsum([len(rows) for rows in inputs])
        parts = numpy.split(scores, ends[:-1])
        return [backend.InferenceResponse([backend.Tensor("y", part)]) for part in parts]
