"""How a stream is opened, and who is refused."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from app.repository.registry import HIGHEST
from tests.app.server.stream.conftest import KEY, TINY, answer, frame, message, opened, running
from tests.support.bundles import TinyModel

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("?answer=loss", "answer"),
        ("?answer=forecast&answer=embed", "answer"),
        ("?answer=forecast&encoder=target", "encoder"),
        ("?answer=predict&encoder=target", "encoder"),
        ("?answer=predict&heads=damage", "heads"),
        ("?actions=3", "actions"),
        ("?heads=damage", "heads"),
        ("?answer=embed&horizon=15", "horizon"),
        ("?answer=forecast&novelty=perhaps", "novelty"),
    ],
)
async def test_a_stream_takes_the_options_of_its_answers_and_no_others(port: int, query: str, name: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(port, query):
            pass
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.body)["errors"][0]["loc"] == ["query", name]


@pytest.mark.parametrize(
    ("query", "width"), [("", 10), ("?answer=forecast", 10), ("?answer=forecast&input=context", 4)]
)
async def test_the_handshake_says_how_wide_a_row_is_and_refuses_who_has_others(
    port: int, query: str, width: int
) -> None:
    async with opened(port, query, X_Row_Width=str(width)) as stream:
        assert stream.response is not None
        assert stream.response.headers["X-Row-Width"] == str(width)
    with pytest.raises(InvalidStatus) as refused:
        async with opened(port, query, X_Row_Width=str(2 * width)):
            pass
    assert refused.value.response.status_code == 422
    assert f"has {2 * width} numbers, model 'tiny' takes {width}" in json.loads(refused.value.response.body)["detail"]


async def test_a_row_is_not_taken_for_two_of_a_version_with_narrower_rows(tmp_path: Path) -> None:
    TINY.write(tmp_path)
    narrow = TinyModel(version=2, groups=(("own", 2), ("stage", 3)), patches=(("own",), ("stage",)))
    async with running(tmp_path) as (port, app), opened(port) as stream:
        narrow.write(tmp_path)
        registry = app.state.service.registry
        registry.serve("tiny", HIGHEST, registry.fetch("tiny", None))
        await stream.send(frame(1))
        problem = json.loads(await stream.recv())
        assert (problem["seq"], problem["status"]) == (1, 422)
        assert "features has 10 numbers, model 'tiny' takes 5" in problem["detail"]
        async with opened(port) as another:
            await another.send(message(2, narrow.rows(1)))
            number, embeddings = await answer(another)
            assert number == 2
            np.testing.assert_allclose(embeddings, narrow.encode(narrow.rows(1)), atol=1e-5)


async def test_the_options_of_the_handshake_hold_for_every_frame(port: int) -> None:
    rows = TINY.rows(2)
    blind = rows.copy()
    blind[:, 3:] = np.nan
    async with opened(port, "?encoder=context&hidden=opponent,stage&model=tiny") as stream:
        for number in range(2):
            await stream.send(message(number, rows))
            _, embeddings = await answer(stream)
            np.testing.assert_allclose(embeddings, TINY.encode(blind, "context"), atol=1e-5)


@pytest.mark.parametrize(
    ("query", "headers", "status", "detail"),
    [
        ("", {}, 401, "this service wants a key"),
        ("", {"X_API_Key": "wrong-key-0123456789"}, 401, "the key is not one of this service's"),
        ("?model=chess", {"X_API_Key": KEY}, 404, "there is no model of that name; loaded: 'tiny'"),
        ("?schema_hash=another", {"X_API_Key": KEY}, 409, "the request expects another"),
        ("", {"X_API_Key": KEY, "X_Schema_Hash": "another"}, 409, "the request expects another"),
        ("?encode=target", {"X_API_Key": KEY}, 422, "encode is not known here; did you mean 'encoder'?"),
        ("", {"X_API_Key": KEY, "X_Request_Timeout_Ms": "soon"}, 422, "must be a number of milliseconds"),
        ("", {"X_API_Key": KEY, "Origin": "https://elsewhere.example"}, 403, "a page of another origin may not"),
        ("", {"X_API_Key": KEY, "Sec_WebSocket_Version": "12"}, 426, "this is no WebSocket handshake: invalid Sec"),
    ],
)
async def test_a_handshake_that_is_refused_is_answered_before_the_upgrade(
    models: Path, query: str, headers: dict[str, str], status: int, detail: str
) -> None:
    async with running(models, api_keys=KEY) as (port, app):
        with pytest.raises(InvalidStatus) as refused:
            await opened(port, query, **headers).__aenter__()
        response = refused.value.response
        problem = json.loads(response.body)
        assert (response.status_code, problem["status"]) == (status, status)
        assert response.headers["content-type"] == "application/problem+json"
        assert detail in problem["detail"]
        assert f'route="/stream",status="{status}"}} 1.0' in app.state.service.telemetry.text().decode()


async def test_a_page_of_the_same_origin_may_open_a_stream(models: Path) -> None:
    async with running(models) as (port, _), opened(port, Origin=f"http://127.0.0.1:{port}") as stream:
        await stream.send(frame(1))
        assert (await answer(stream))[0] == 1


async def test_what_is_no_websocket_is_told_so_and_others_paths_have_none(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        plain = await client.get("/stream")
        assert (plain.status_code, plain.json()["type"]) == (426, "urn:jepa:error:upgrade-required")
        assert plain.headers["upgrade"] == "websocket"
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert (await client.get("/livez", headers=upgrade)).status_code == 200


@pytest.mark.parametrize(("method", "status"), [("HEAD", 426), ("POST", 405), ("PUT", 405)])
async def test_only_a_get_opens_a_stream_and_all_else_is_answered_as_http(port: int, method: str, status: int) -> None:
    """A body behind the answer to a HEAD would be taken for the next answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    offer = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0"
    writer.write(f"{method} /stream HTTP/1.1\r\nHost: x\r\n{offer}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    if method != "HEAD":
        (length,) = re.findall(rb"content-length: (\d+)", head)
        await reader.readexactly(int(length))
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(3) == b"ok\n"
    writer.close()


async def test_a_stream_is_one_of_the_connections_there_may_be(models: Path) -> None:
    async with running(models, max_connections=1) as (port, _):
        async with opened(port), httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 503
        async with opened(port) as stream:
            await stream.send(frame(1))
            assert (await answer(stream))[0] == 1
