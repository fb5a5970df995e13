"""The servers to compare: how to install, start, call and stop each."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.programs import CORES

HERE = Path(__file__).resolve().parent
VENVS = HERE / ".venvs"
START_S, STOP_S = 120.0, 60.0

Rows = NDArray[np.float32]


class Server(NamedTuple):
    # The folder next to this file with requirements.txt and server.py; none for jepa-serve.
    peer: str
    label: str
    environment: dict[str, str]
    # Arguments for the Python of its environment.
    command: tuple[str, ...] = ("server.py",)
    path: str = "/embed"


BENTO = ("-m", "bentoml", "serve", "server:Embedder")
V2 = "/v2/models/encoder/infer"
JEPA = Server("", "jepa-serve", {})
# The process in which Triton runs Python takes libpython from the system, whose release may differ from its modules'.
LIBPYTHON = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
PEERS = [
    Server("naive", "FastAPI, 1 worker", {"WORKERS": "1"}),
    Server("naive", f"FastAPI, {CORES} workers", {"WORKERS": f"{CORES}"}),
    Server("litserve", f"LitServe, {CORES} workers", {"WORKERS": f"{CORES}", "BATCH": "1", "WAIT_S": "0"}),
    Server(
        "litserve", f"LitServe, {CORES} workers, batches", {"WORKERS": f"{CORES}", "BATCH": "64", "WAIT_S": "0.0005"}
    ),
    Server("bentoml", f"BentoML, {CORES} workers", {"WORKERS": f"{CORES}", "BATCH": "0"}, BENTO),
    Server("bentoml", f"BentoML, {CORES} workers, batches", {"WORKERS": f"{CORES}", "BATCH": "1"}, BENTO),
    Server("mlserver", "MLServer", {"BATCH": "0", "WAIT_S": "0"}, path=V2),
    Server("mlserver", "MLServer, batches", {"BATCH": "64", "WAIT_S": "0.002"}, path=V2),
    Server("triton", "Triton, batches", LIBPYTHON, path=V2),
    Server("ray", "Ray Serve, batches", {}),
    Server("ray", "Ray Serve, batches, for throughput", {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
]
# Turns off telemetry, which would also wait for a network that may not be there.
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "ORT_DISABLE_TELEMETRY": "1"}


def v2_of_jepa(model: str) -> Server:
    """jepa-serve again, by the protocol that some of its peers speak."""
    return Server("", "jepa-serve, /v2", {}, path=f"/v2/models/{model}/infer")


def install(peer: str) -> str | None:
    """Creates the peer's virtual environment if its requirements changed; returns why that failed, or None."""
    requirements, venv = HERE / peer / "requirements.txt", VENVS / peer
    stamp = venv / requirements.name
    if stamp.is_file() and stamp.read_text() == requirements.read_text():
        return None
    print(f"installing {peer} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return f"pip cannot install {requirements} here: {errors[-1] if errors else done.stderr[-300:]}"
    shutil.copy(requirements, stamp)
    return None


@contextmanager
def running(server: Server, models: Path, encoder: Path, row: Rows) -> Iterator[int]:
    """Yields the server's port once it has answered a row; afterwards all its processes are stopped."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = {"MODEL": str(encoder), "PORT": str(port), "BENTOML_PORT": str(port), "BENTOML_HOST": "127.0.0.1"}
    if not server.peer:
        folder = HERE.parents[1]
        command = [str(Path(sys.executable).with_name("jepa")), "serve", "--models", str(models), "--port", str(port)]
        command += ["--precision", "float32"]
    else:
        folder = HERE / server.peer
        command = [str(VENVS / server.peer / "bin" / "python"), *server.command]
    environment = os.environ | QUIET | server.environment | where
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            until = time.monotonic() + START_S
            while not _answers(server, port, row):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"{server.label} did not start; its log ends with:\n{log.read()[-2000:]}")
                time.sleep(0.2)
            yield port
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(server: Server, port: int, row: Rows) -> bool:
    with suppress(httpx.HTTPError):
        return len(ask(server, port, row)) == 1
    return False


def ask(server: Server, port: int, features: Rows) -> Rows:
    """The embeddings of the rows; httpx.HTTPError if the request fails."""
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}{server.path}"
    answer = httpx.post(url, content=body(server, features), headers=headers, timeout=30).raise_for_status().json()
    if server.path.startswith("/v2/"):
        (output,) = answer["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])
    return np.array(answer["embeddings"] if isinstance(answer, dict) else answer, np.float32)


def body(server: Server, features: Rows) -> bytes:
    """The rows as JSON in the server's dialect, each number as short as float32 allows."""
    document: dict[str, object] = {"features": features}
    if server.path.startswith("/v2/"):
        tensor = {"name": "features", "datatype": "FP32", "shape": features.shape, "data": features.ravel()}
        document = {"inputs": [tensor]}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
