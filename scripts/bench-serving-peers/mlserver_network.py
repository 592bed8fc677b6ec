"""A runtime of MLServer, which has none for ONNX: a network with ONNX Runtime, on one thread of each worker."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Network(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        scores = self.session.run(["y"], {"x": rows})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", scores)])
