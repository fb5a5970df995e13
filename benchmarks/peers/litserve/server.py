"""LitServe: worker processes behind as many HTTP processes; several rows in a request, so batches are joined here."""

import os

import litserve
import numpy as np
import onnxruntime as ort


class Embedder(litserve.LitAPI):
    def setup(self, device):  # noqa: ARG002
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options)

    def decode_request(self, request):
        return np.array(request["features"], np.float32)

    def batch(self, inputs):
        self.edges = np.cumsum([len(rows) for rows in inputs])[:-1]
        return np.concatenate(inputs)

    def predict(self, features):
        return self.session.run(None, {"features": features})[0]

    def unbatch(self, output):
        return np.split(output, self.edges)

    def encode_response(self, output):
        return {"embeddings": output.tolist()}


if __name__ == "__main__":
    api = Embedder(
        max_batch_size=int(os.environ["BATCH"]), batch_timeout=float(os.environ["WAIT_S"]), api_path="/embed"
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
