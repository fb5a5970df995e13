"""BentoML: run by `bentoml serve server:Embedder`."""

import os
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime as ort
from bentoml.validators import DType

Rows = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Embedder:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options)

    # A max_latency_ms near a frame makes the dispatcher refuse with 503 what it expects to be late: most requests.
    @bentoml.api(batchable=bool(int(os.environ["BATCH"])), max_batch_size=128, max_latency_ms=1000)
    def embed(self, features: Rows) -> Rows:
        return self.session.run(None, {"features": features})[0]
