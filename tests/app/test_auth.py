"""Keys on the wire, by both ways through the service."""

import logging
import ssl
from pathlib import Path

import httpx
import pytest

from app.auth import Keys
from app.errors import Unauthorized
from tests.support.serving import Server, serving

pytestmark = pytest.mark.anyio

OLD, NEW = "old-key-0123456789", "new-key-0123456789"
FRAME = {"features": [0.5] * 10}
both_ways = pytest.mark.parametrize("way", ["asgi", "socket"])


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": f"Bearer {OLD}".encode()},
        {b"authorization": f"bearer  {NEW}".encode()},
        {b"x-api-key": NEW.encode()},
        {b"x-api-key": NEW.encode(), b"authorization": b"Basic xyz"},
    ],
)
def test_any_of_the_keys_opens_in_either_header(headers: dict[bytes, bytes]) -> None:
    Keys([OLD, NEW]).check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": OLD.encode()},
        {b"authorization": b"Bearer " + OLD[:-1].encode()},
        {b"x-api-key": OLD.encode() + b"\xff"},
    ],
)
def test_nothing_else_does(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Unauthorized):
        Keys([OLD, NEW]).check(headers)


def test_without_keys_everybody_may_ask() -> None:
    Keys([]).check({})


@both_ways
async def test_the_service_wants_a_key_for_all_but_probes(models: Path, way: str) -> None:
    async with serving(way, models=models, api_keys=f"{OLD}, {NEW}") as client:
        for key in (OLD, NEW):
            answer = await client.post("/embed", json=FRAME, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
        for path in ("/embed", "/models", "/docs", "/openapi.json", "/nowhere"):
            answer = await client.request("POST" if path == "/embed" else "GET", path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["x-request-id"]
            assert answer.json()["type"] == "urn:jepa:error:unauthorized"
        assert (await client.get("/v2")).json()["error"].startswith("this service wants a key")
        assert (await client.get("/v2/health/ready")).status_code == 200
        wrong = await client.post("/embed", json=FRAME, headers={"X-API-Key": "wrong"})
        assert wrong.status_code == 401
        assert "may have been replaced" in wrong.json()["detail"]
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        metrics = await client.get("/metrics")
        assert 'jepa_requests_rejected_total{reason="unauthorized"} 7.0' in metrics.text


async def test_a_key_that_opened_does_not_open_for_the_next_request_on_its_connection(models: Path) -> None:
    async with serving("socket", models=models, api_keys=OLD) as client:
        for key, status in ((OLD, 200), (OLD, 200), (OLD[:-1] + "0", 401), (OLD, 200)):
            answer = await client.post("/embed", json=FRAME, headers={"X-API-Key": key})
            assert answer.status_code == status


@both_ways
async def test_metrics_want_a_key_where_that_is_set(models: Path, way: str) -> None:
    async with serving(way, models=models, api_keys=OLD, metrics_need_key=True) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"X-API-Key": OLD})).status_code == 200


def test_a_key_is_never_logged(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the bots of the ladder\n{OLD}\n\n{NEW}\n")
    flags = ("--models", str(models), "--api-keys-file", str(file), "--access-log", "--log-level", "debug")
    with Server(*flags) as server:
        for key in (OLD, NEW, "wrong-key-0123456789"):
            httpx.post(f"{server.url}/embed", json=FRAME, headers={"X-API-Key": key})
        assert server.stop() == 0
    assert server.log.count('"status":200') == 2
    assert server.log.count('"status":401') == 1
    assert not any(key in server.log for key in (OLD, NEW, "wrong-key-0123456789"))


def test_an_open_door_to_the_world_is_warned_of(models: Path) -> None:
    with Server("--models", str(models), "--host", "0.0.0.0") as server:
        assert "whoever reaches 0.0.0.0 can use this service" in server.log
    with Server("--models", str(models), "--host", "0.0.0.0", env={"JEPA_API_KEYS": OLD}) as server:
        assert logging.getLevelName(logging.WARNING) not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_https_is_spoken_with_a_certificate(models: Path, certified: tuple[Path, Path], workers: str) -> None:
    certificate, key = certified
    trusted = ssl.create_default_context(cafile=str(certificate))
    flags = ("--models", str(models), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with Server(*flags, "--workers", workers, verify=trusted) as server, httpx.Client(verify=trusted) as client:
        assert server.url.startswith("https://")
        answers = [client.post(f"{server.url}/embed", json=FRAME) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
