"""The programs that a benchmark runs: the service, bare ASGI apps, and load generators."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import orjson

from app.system.cores import available_cores
from bundle.folders import locate

HERE = Path(__file__).parent
ROOT = HERE.parent
CORES = available_cores()
TYPES = {"json": "application/json", "binary": "application/octet-stream"}
TICKS = os.sysconf("SC_CLK_TCK")


def need_wrk() -> None:
    if shutil.which("wrk") is None:
        sys.exit("wrk, which makes load, not found; on Debian: apt-get install wrk")


def bundles(folder: Path, *, quick: bool) -> Iterator[Path]:
    """Those that are measured: the bundled one and, unless it has to be `quick`, the reference of one and of eight
    tokens, which are exported to `folder`."""
    yield locate("default")
    if not quick:
        # It needs PyTorch.
        from benchmarks.reference import export_reference

        for tokens in (1, 8):
            yield export_reference(folder / f"{tokens}", tokens)


class Body(NamedTuple):
    """A request body: rows encoded as `kind`, in a file for load generators to read."""

    kind: str
    rows: int
    file: Path

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.rows}"


def write_body(folder: Path, kind: str, width: int, rows: int) -> Body:
    drawn = np.random.default_rng(0).uniform(0, 1, (rows, width)).astype("<f4")
    features = drawn if rows > 1 else drawn[0]
    document = orjson.dumps({"features": features}, option=orjson.OPT_SERIALIZE_NUMPY)
    body = Body(kind, rows, folder / f"{kind}-{rows}-{width}")
    body.file.write_bytes(drawn.tobytes() if kind == "binary" else document)
    return body


def ask(url: str, body: Body) -> bytes:
    """Sends one request and returns the answer; OSError while nothing listens."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    kind = {"Content-Type": TYPES[body.kind], "Accept": TYPES[body.kind]}
    connection.request("POST", "/embed", body.file.read_bytes(), kind)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise OSError(f"{url} answered {answer.status}: {content!r}")
    return content


def closed_loop(
    urls: list[str], path: str, body: Body, connections: int, seconds: float, *, timeout_ms: float | None = None
) -> dict[str, float]:
    """Sends requests as fast as answers come, over `connections` in total; returns `rate` in requests/s, `p50_ms`,
    `p99_ms` and `failed`."""
    started = [_closed_loop(url + path, body, connections // len(urls), seconds, timeout_ms) for url in urls]
    outcomes = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return {
        "rate": sum(outcome["requests"] / outcome["seconds"] for outcome in outcomes),
        "failed": sum(outcome["failed"] for outcome in outcomes),
        "p50_ms": max(outcome["p50_ms"] for outcome in outcomes),
        "p99_ms": max(outcome["p99_ms"] for outcome in outcomes),
    }


def _closed_loop(
    url: str, body: Body, connections: int, seconds: float, timeout_ms: float | None
) -> "subprocess.Popen[str]":
    command = ["wrk", f"-t{min(CORES, connections)}", f"-c{connections}", f"-d{seconds:g}s"]
    environment = os.environ | {"BODY": str(body.file), "TYPE": TYPES[body.kind]}
    command += [] if timeout_ms is None else ["-H", f"X-Request-Timeout-Ms: {timeout_ms:g}"]
    command += ["-s", str(HERE / "post.lua"), url]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def percentile(values: np.ndarray, share: float) -> float:
    # One of the values, as nothing lies between two that are infinite: frames without an answer.
    return float(np.percentile(values, share, method="higher")) if len(values) else float("nan")


class Service:
    """`jepa serve` with its default settings."""

    def __init__(self, models: Path, before: str = "pass") -> None:
        """`before` is Python code to run first, to change what is measured."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        command = [sys.executable, "-c", f"{before}\nfrom cli.main import main; main()", "serve", "--port", "0"]
        self.started = time.monotonic()
        self.process = subprocess.Popen([*command, "--models", str(models)], stderr=self._log, cwd=ROOT)
        while not (found := re.search(r"on (http://[\d.]+:\d+)", self.log)):
            self._check()
        self.url = found[1]

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def _check(self) -> None:
        if self.process.poll() is not None or time.monotonic() > self.started + 60:
            raise RuntimeError(f"the service did not start: {self.log}")
        time.sleep(0.002)

    def wait_until_it_answers(self, body: Body) -> float:
        """Seconds from the start of the process to the first answer, to within a few milliseconds."""
        while True:
            try:
                ask(self.url, body)
            except OSError:
                self._check()
            else:
                return time.monotonic() - self.started

    def card(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        connection.request("GET", "/models")
        card: dict[str, Any] = json.loads(connection.getresponse().read())["models"][0]
        return card

    @property
    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def cpu_s(self, *, loops_alone: bool = False) -> float:
        """The processor time of all processes, or of the threads alone that their event loops run on."""
        files = [f"/proc/{pid}/task/{pid}/stat" if loops_alone else f"/proc/{pid}/stat" for pid in self.pids]
        fields = [Path(file).read_text().rpartition(")")[2].split() for file in files]
        return sum(int(user) + int(system) for *_, user, system in (each[:13] for each in fields)) / TICKS

    def resident_mib(self) -> list[float]:
        """The resident memory of each process."""
        return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20 for pid in self.pids]

    def proportional_mib(self) -> dict[int, float]:
        """The proportional set size by process id, in which shared memory is divided among the processes that share it.

        A process that is just ending is left out.
        """
        found = {}
        for pid in self.pids:
            with suppress(OSError, TypeError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found[pid] = int(re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()


class Empty:
    """Bare ASGI apps under uvicorn, one per core, that answer a body's `/NAME` with what is in a file.

    Each has its own port, because processes that share one get connections unevenly, which would lower the limit.
    """

    def __init__(self, answers: dict[str, Path]) -> None:
        environment = os.environ | {"ANSWERS": ",".join(f"/{name}={file}" for name, file in answers.items())}
        self.urls, self._processes = [], []
        for _ in range(CORES):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            command = [sys.executable, "-m", "uvicorn", "benchmarks.empty:app", "--port", str(port)]
            command += ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--no-proxy-headers"]
            self._processes.append(subprocess.Popen([*command, "--log-level", "error"], env=environment, cwd=ROOT))
            self.urls.append(f"http://127.0.0.1:{port}")
        for url in self.urls:
            _wait_for(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()


def _wait_for(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(1000):
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"nothing listens at {url}")
