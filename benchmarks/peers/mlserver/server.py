"""MLServer: a custom runtime behind its Open Inference Protocol, with adaptive batching."""

import asyncio
import os

import onnxruntime as ort
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Embedder(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (embeddings,) = self.session.run(None, {"features": NumpyCodec.decode_input(payload.inputs[0])})
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="embedding", payload=embeddings)]
        )


if __name__ == "__main__":
    settings = Settings(
        host="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        grpc_port=0,
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
        gzip_enabled=False,
    )
    model = ModelSettings(
        name="encoder",
        implementation="server.Embedder",
        max_batch_size=int(os.environ["BATCH"]),
        max_batch_time=float(os.environ["WAIT_S"]),
    )
    asyncio.run(MLServer(settings).start([model]))
