"""Sends a prediction request to a running platform with the unmodified KServe SDK.

usage: kserve_client.py grpc|rest HOST:PORT REST_HOST:PORT MODEL < rows.json > answer.json

Reads a list of rows (objects from feature name to value), sends them as one request whose tensors have the types of the
model's metadata, which REST answers, and prints the outputs.
"""

import asyncio
import json
import sys

import httpx
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(model, inputs, rows):
    """One tensor per input."""
    tensors = []
    for meta in inputs:
        values = [row.get(meta["name"]) for row in rows]
        if meta["datatype"] == "BYTES":
            values = ["" if value is None else str(value) for value in values]
        elif meta["datatype"].startswith("FP"):
            values = [float("nan") if value is None else float(value) for value in values]
        tensors.append(InferInput(meta["name"], [len(rows), 1], meta["datatype"], data=values))
    return InferRequest(model_name=model, infer_inputs=tensors, request_id="from-kserve", parameters={"traffic": "replay"})


async def main():
    protocol, address, rest, model = sys.argv[1:5]
    rows = json.load(sys.stdin)
    # The SDK has no call for metadata.
    inputs = httpx.get(f"http://{rest}/v2/models/{model}").json()["inputs"]
    if protocol == "rest":
        client, base = InferenceRESTClient(RESTConfig(protocol="v2")), f"http://{address}"
        ready = [
            await client.is_server_live(base),
            await client.is_server_ready(base),
            await client.is_model_ready(base, model),
            not await client.is_model_ready(base, "absent"),
        ]
        answer = await client.infer(base, request(model, inputs, rows), model_name=model)
    else:
        client = InferenceGRPCClient(url=address)
        ready = [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready(model),
            not await client.is_model_ready("absent"),
        ]
        answer = await client.infer(request(model, inputs, rows))
    outputs = {output.name: output.as_numpy().reshape(-1).tolist() for output in answer.outputs}
    outputs["label"] = [label.decode() if isinstance(label, bytes) else label for label in outputs["label"]]
    json.dump({"ready": ready, "id": answer.id, "outputs": outputs}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
