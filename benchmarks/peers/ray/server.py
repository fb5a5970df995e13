"""Ray Serve: one deployment on this machine, with `@serve.batch`."""

import os

import numpy as np
import onnxruntime as ort
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


@serve.deployment(max_ongoing_requests=128)
class Embedder:
    def __init__(self, model: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def embed(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        (embeddings,) = self.session.run(None, {"features": np.concatenate(requests)})
        return np.split(embeddings, np.cumsum([len(rows) for rows in requests])[:-1])

    async def __call__(self, request: Request) -> JSONResponse:
        features = np.array((await request.json())["features"], np.float32)
        return JSONResponse({"embeddings": (await self.embed(features)).tolist()})


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Embedder.bind(os.environ["MODEL"]), route_prefix="/embed", blocking=True)
