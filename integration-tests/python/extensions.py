"""Calls the extensions of the protocol on a running platform with the unmodified Triton client.

usage: extensions.py grpc|http HOST:PORT MODEL

Prints one JSON object: the configuration, the statistics, the index, and what the server says to calls that change nothing.
"""

import importlib
import json
import sys


def refusal(call):
    """The message with which the server refuses a call."""
    try:
        call()
    except Exception as error:  # Each protocol has its own class of errors.
        return error.message() if hasattr(error, "message") else str(error)
    return None


def streamed(triton, client, model):
    """The number of rows of each answer to a stream of three requests, the second of which is refused."""
    import queue

    import numpy as np

    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for rows in (1, 0, 3):
        inputs = []
        for meta in client.get_model_metadata(model, as_json=True)["inputs"]:
            datatype = meta["datatype"]
            values = np.full((rows, 1), b"north" if datatype == "BYTES" else 0, dtype=object if datatype == "BYTES" else None)
            values = values if datatype == "BYTES" else values.astype(np.int64 if datatype == "INT64" else np.float64)
            tensor = triton.InferInput(meta["name"], [rows, 1], datatype)
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        client.async_stream_infer(model, inputs, parameters={"traffic": "replay"})
    received = [answers.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    return [str(error) if error else result.as_numpy("probability").shape[0] for result, error in received]


def main():
    protocol, address, model = sys.argv[1:4]
    triton = importlib.import_module(f"tritonclient.{protocol}")
    client = triton.InferenceServerClient(address)
    as_json = {"as_json": True} if protocol == "grpc" else {}
    index = client.get_model_repository_index(**as_json)
    config = client.get_model_config(model, **as_json)
    client.load_model(model)
    found = {
        "extensions": client.get_server_metadata(**as_json)["extensions"],
        "config": config["config"] if protocol == "grpc" else config,
        "statistics": client.get_inference_statistics(model, **as_json)["model_stats"][0],
        "index": index["models"] if protocol == "grpc" else index,
        "load": refusal(lambda: client.load_model("absent")),
        "unload": refusal(lambda: client.unload_model(model)),
        "shared memory": refusal(client.get_system_shared_memory_status),
        "stream": streamed(triton, client, model) if protocol == "grpc" else None,
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
