"""Sends a prediction request to a running platform with the unmodified Triton client.

usage: predict.py grpc|http HOST:PORT MODEL < rows.json > answers.json

Reads a list of rows (objects from feature name to value), sends them as one request whose tensors have the types of the
model's metadata, and prints the response. Over HTTP, the tensors are binary and the bodies are compressed.
"""

import importlib
import json
import sys

import numpy as np

NUMPY = {"INT64": np.int64, "FP64": np.float64, "FP32": np.float32, "BOOL": np.bool_, "BYTES": np.object_}


def tensor(triton, meta, rows):
    """One input tensor: the named feature of every row, missing numbers as NaN and missing texts as empty."""
    datatype = meta["datatype"]
    missing = b"" if datatype == "BYTES" else float("nan")
    values = [row.get(meta["name"]) for row in rows]
    values = [missing if value is None else value for value in values]
    if datatype == "BYTES":
        values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    data = np.array(values, dtype=NUMPY[datatype]).reshape(len(rows), 1)
    result = triton.InferInput(meta["name"], list(data.shape), datatype)
    result.set_data_from_numpy(data)
    return result


def main():
    protocol, address, model = sys.argv[1:4]
    triton = importlib.import_module(f"tritonclient.{protocol}")
    as_json, compressed = {"as_json": True}, {}
    if protocol == "http":
        as_json, compressed = {}, {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
    rows = json.load(sys.stdin)
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    meta = client.get_model_metadata(model, **as_json)
    inputs = [tensor(triton, m, rows) for m in meta["inputs"]]
    answer = client.infer(model, inputs, request_id="from-python", parameters={"traffic": "replay"}, **compressed)
    response = answer.get_response(**as_json)
    outputs = {}
    for output in meta["outputs"]:
        values = answer.as_numpy(output["name"])
        outputs[output["name"]] = [
            value.decode() if isinstance(value, bytes) else value for value in values.reshape(-1).tolist()
        ]
    json.dump(
        {
            "id": response.get("id"),
            "version": response.get("model_version"),
            "parameters": {
                name: next(iter(value.values())) if isinstance(value, dict) else value
                for name, value in response.get("parameters", {}).items()
            },
            "outputs": outputs,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
