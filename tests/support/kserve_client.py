"""Calls a service with kserve's own clients and prints the results as JSON; run by the Python in .venvs/kserve.

python kserve_client.py http://127.0.0.1:8000 127.0.0.1:8001 MODEL < ROWS.json
"""

import asyncio
import json
import logging
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

rest_url, grpc_address, model = sys.argv[1:]
rows = np.float32(json.load(sys.stdin))
# kserve logs a refusal before it raises it.
logging.disable()


def request(rows, binary):
    tensor = InferInput("features", [*rows.shape], "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(model, [tensor], request_outputs=[RequestedOutput("embedding", {"binary_data": binary})])


def read(response):
    (output,) = response.outputs
    return [response.model_name, output.name, output.as_numpy().tolist()]


async def over_rest(binary):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
    headers = {}
    answer = await client.infer(rest_url, request(rows, binary), model_name=model, headers={}, response_headers=headers)
    try:
        await client.infer(rest_url, request(rows[:, 1:], binary), model_name=model)
    except httpx.HTTPStatusError as error:
        refused = str(error)
    return {
        "live": await client.is_server_live(rest_url),
        "ready": await client.is_server_ready(rest_url),
        "model_ready": await client.is_model_ready(rest_url, model),
        "content_type": headers["content-type"],
        "answer": read(answer),
        "refused": refused,
    }


async def over_grpc(binary):
    async with InferenceGRPCClient(grpc_address, timeout=20) as client:
        answer = await client.infer(request(rows, binary))
        try:
            await client.infer(request(rows[:, 1:], binary))
        except grpc.RpcError as error:
            refused = error.details()
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(model),
            "answer": read(answer),
            "refused": refused,
        }


async def main():
    ways = {"rest": over_rest, "grpc": over_grpc}
    found = {f"{name} {form}": await way(form == "binary") for name, way in ways.items() for form in ("json", "binary")}
    json.dump(found, sys.stdout)


asyncio.run(main())
