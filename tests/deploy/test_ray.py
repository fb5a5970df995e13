"""deploy/ray on a local Ray, whose driver has a process of its own, as with `serve run`."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.bundles import TinyModel

pytest.importorskip("ray", reason="needs ray[serve]")

ROOT = Path(__file__).parents[2]
# Requests sent at the same time.
FLIGHT = 96
DRIVER = """
import json, sys
import ray
from ray import serve
import jepa_ray

ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(jepa_ray.app)
for _ in sys.stdin:
    print(json.dumps(serve.status().applications["default"].deployments["Jepa"].replica_states), flush=True)
ray.shutdown()
"""


class Ray:
    def __init__(self, driver: "subprocess.Popen[str]", port: int) -> None:
        self._driver = driver
        self.url = f"http://127.0.0.1:{port}"

    def replicas(self) -> int:
        """The number of replicas that run now."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        print(file=self._driver.stdin, flush=True)
        return int(json.loads(self._driver.stdout.readline()).get("RUNNING", 0))


@pytest.fixture(scope="module")
def ray(models: Path) -> Iterator[Ray]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "deploy" / "ray")))
    environment = os.environ | {"PYTHONPATH": path, "JEPA_MODELS": str(models), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", DRIVER, str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as driver:
        try:
            ray = Ray(driver, port)
            assert ray.replicas() == 1
            yield ray
            driver.communicate(timeout=30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)


def test_ray_answers_as_the_service_does(ray: Ray, tiny: TinyModel) -> None:
    rows = tiny.rows(3)
    answer = httpx.post(f"{ray.url}/embed", json={"features": rows.tolist()}).raise_for_status().json()
    np.testing.assert_allclose(answer["embeddings"], tiny.encode(rows), atol=1e-5)
    assert httpx.get(f"{ray.url}/readyz").status_code == 200
    refusal = httpx.post(f"{ray.url}/embed", json={"features": [1.0]})
    assert (refusal.status_code, refusal.headers["content-type"]) == (422, "application/problem+json")


def test_replicas_are_added_where_many_requests_wait(ray: Ray, tiny: TinyModel) -> None:
    body, headers = tiny.rows(32).tobytes(), {"Content-Type": "application/octet-stream"}
    limits = httpx.Limits(max_connections=FLIGHT)
    with (
        httpx.Client(base_url=ray.url, headers=headers, timeout=60, limits=limits) as client,
        ThreadPoolExecutor(FLIGHT) as pool,
    ):
        while ray.replicas() < 2:
            answers = pool.map(lambda _: client.post("/embed", content=body).status_code, range(4 * FLIGHT))
            assert {*answers} == {200}
