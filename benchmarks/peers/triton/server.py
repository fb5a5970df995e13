"""Triton, started by PyTriton: a bound Python function behind its Open Inference Protocol, with dynamic batching."""

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options)


@batch
def embed(features: np.ndarray) -> dict[str, np.ndarray]:
    (embeddings,) = session.run(None, {"features": features})
    return {"embedding": embeddings}


def tensor(of: ort.NodeArg) -> Tensor:
    """Its shape without the batch."""
    return Tensor(name=of.name, dtype=np.float32, shape=of.shape[1:])


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(os.environ["PORT"]), allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="encoder",
            infer_func=embed,
            inputs=[tensor(session.get_inputs()[0])],
            outputs=[tensor(session.get_outputs()[0])],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher()),
        )
        triton.serve()
