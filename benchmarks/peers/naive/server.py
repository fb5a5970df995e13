"""FastAPI as its tutorial has it: a `def` endpoint, which runs in the thread pool, and pydantic both ways."""

import os

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options)
app = FastAPI()


class Features(BaseModel):
    features: list[list[float]]


class Embeddings(BaseModel):
    embeddings: list[list[float]]


@app.post("/embed")
def embed(request: Features) -> Embeddings:
    (embeddings,) = session.run(None, {"features": np.array(request.features, np.float32)})
    return Embeddings(embeddings=embeddings.tolist())


if __name__ == "__main__":
    workers = int(os.environ["WORKERS"])
    uvicorn.run("server:app", port=int(os.environ["PORT"]), workers=workers, access_log=False, log_level="warning")
