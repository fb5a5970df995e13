"""Frames over a WebSocket, on the wire."""

import asyncio
import json
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from app.service import Service
from app.telemetry.logs import Json
from tests.app.server.stream.conftest import TINY, answer, frame, message, opened, queued, running
from tests.support.acting import ACTING, inputs, predicted, values

pytestmark = pytest.mark.anyio


async def test_each_frame_is_answered_with_its_number_and_its_embeddings(port: int) -> None:
    async with opened(port) as stream:
        for number, rows in ((7, 1), (0, 3), (2**32 - 1, 8)):
            await stream.send(message(number, TINY.rows(rows)))
            seq, embeddings = await answer(stream)
            assert seq == number
            np.testing.assert_allclose(embeddings, TINY.encode(TINY.rows(rows)), atol=1e-5)


async def test_a_stream_of_forecasts_answers_with_the_values_of_heads(port: int) -> None:
    rows = TINY.rows(2)
    unseen = rows.copy()
    unseen[:, 3:8] = np.nan
    ones = np.ones((2, 2), np.float32)
    predicted = TINY.predict(TINY.encode(unseen, "context"), ones, np.full(2, 15, np.float32))
    later, now = TINY.values(predicted, 2), TINY.values(TINY.encode(rows))
    for query, expected in (
        ("?answer=forecast", [*now.values()]),
        ("?heads=speed,damage&answer=forecast", [now["speed"], now["damage"]]),
        ("?answer=forecast&horizon=15&hidden=opponent&heads=damage", [later["damage"]]),
    ):
        async with opened(port, query) as stream:
            for number in range(2):
                await stream.send(message(number, rows))
                received = await stream.recv()
                assert isinstance(received, bytes)
                assert struct.unpack_from("<I", received) == (number,)
                values = np.frombuffer(received[4:], "<f4").reshape(2, -1)
                np.testing.assert_allclose(values, np.stack(expected, axis=1), rtol=1e-4)
    async with opened(port, "?answer=forecast&novelty=true&horizon=6") as stream:
        await stream.send(message(0, rows))
        assert len(await stream.recv()) == 4 + 2 * 4 * (len(now) + 1)


async def test_a_stream_of_predictions_answers_with_later_embeddings(acting_models: Path) -> None:
    row, actions = ACTING.rows(1), inputs(3, 4)
    async with running(acting_models) as (port, _):
        async with opened(port, "?answer=predict&horizon=15&targets=own,opponent") as stream:
            await stream.send(message(1, row))
            number, found = await answer(stream)
            assert number == 1
            np.testing.assert_allclose(found, predicted(row, None), atol=1e-5)
        async with opened(port, "?answer=predict&horizon=15&actions=4") as stream:
            for number, each in enumerate(actions):
                await stream.send(message(number, np.concatenate([row[0], each.ravel()])))
                answered, found = await answer(stream)
                assert answered == number
                np.testing.assert_allclose(found, predicted(row, each[None]), atol=1e-5)
            await stream.send(message(7, row))
            assert await answer(stream) == (7, 422)
        async with opened(port, "?answer=predict&horizon=15&actions=4&candidates=3") as stream:
            await stream.send(message(8, np.concatenate([row[0], actions.ravel()])))
            number, found = await answer(stream)
            assert number == 8
            np.testing.assert_allclose(found, predicted(row, actions), atol=1e-5)
        async with opened(port, "?answer=forecast&horizon=15&actions=4&heads=speed") as stream:
            await stream.send(message(9, np.concatenate([row[0], actions[0].ravel()])))
            value = struct.unpack("<If", await stream.recv(decode=False))[1]
            expected = values(predicted(row, actions[:1]), outputs=["speed"])
            np.testing.assert_allclose(value, expected.item(), rtol=1e-4)


async def test_a_frame_whose_forecast_is_refused_does_not_end_the_stream(port: int) -> None:
    async with opened(port, "?answer=forecast&heads=damag") as stream:
        for number in range(2):
            await stream.send(frame(number))
            problem = json.loads(await stream.recv())
            assert (problem["seq"], problem["status"]) == (number, 422)
            assert "did you mean 'damage'?" in problem["detail"]


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (np.zeros(11), 422, "if number 11 of each row is padding, leave it out"),
        (np.full(10, np.nan), 422, "features[0][0] (own_0) is NaN; replace it, or hide its group"),
        (np.zeros(0), 422, "the body is empty; send rows of 10 little-endian float32 numbers"),
        (np.zeros(90), 413, "the request has 9 rows, the limit is 8"),
    ],
)
async def test_a_bad_frame_gets_its_problem_and_the_next_one_its_answer(
    port: int, content: np.ndarray, status: int, detail: str
) -> None:
    async with opened(port) as stream:
        await stream.send(message(3, content))
        problem = json.loads(await stream.recv(decode=True))
        assert (problem["seq"], problem["status"]) == (3, status)
        assert problem["type"].startswith("urn:jepa:error:")
        assert detail in problem["detail"]
        await stream.send(frame(4))
        np.testing.assert_allclose((await answer(stream))[1], TINY.encode(TINY.rows(1, seed=4)), atol=1e-5)


async def test_a_message_may_come_in_pieces_with_pings_between(port: int) -> None:
    content = frame(1)
    async with opened(port) as stream:
        await stream.send([content[:2], content[2:9], content[9:]])
        await (await stream.ping())
        assert (await answer(stream))[0] == 1


async def test_however_messages_are_cut_into_chunks_each_gets_its_answer(port: int) -> None:
    def wire(number: int) -> bytes:
        return bytes(Frame(Opcode.BINARY, frame(number)).serialize(mask=True))

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Request-Id: mine\r\n\r\n"
    writer.write(head.encode())
    accepted = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert accepted.startswith(b"http/1.1 101 ")
    assert b"x-request-id: mine\r\n" in accepted
    sent = b"".join(map(wire, range(6)))
    rng = np.random.default_rng(0)
    for chunk in np.split(np.frombuffer(sent, np.uint8), np.sort(rng.integers(1, len(sent), 12))):
        writer.write(chunk.tobytes())
        await asyncio.sleep(0.001)
    size = 2 + 4 + 4 * TINY.embed_dim
    for number in range(6):
        _, _, seq = struct.unpack_from("<BBI", await reader.readexactly(size))
        assert seq == number
    writer.close()


async def test_thousands_at_once_are_all_answered_and_others_come_in_between(port: int) -> None:
    async with opened(port) as flood, opened(port) as other:
        for number in range(3000):
            flood.transport.write(Frame(Opcode.BINARY, struct.pack("<I", number)).serialize(mask=True))
        await other.send(frame(1))
        assert (await answer(other))[0] == 1
        assert [await answer(flood) for _ in range(3000)] == [(number, 422) for number in range(3000)]


async def test_a_newer_frame_takes_the_place_of_one_that_waits_in_its_own_stream_alone(
    port: int, service: Service
) -> None:
    assert service.threads.acquire(lambda: None)
    async with opened(port) as stream, opened(port) as other:
        await other.send(frame(9))
        for number in (1, 2, 3):
            await stream.send(frame(number))
        assert [await answer(stream) for _ in range(2)] == [(1, 409), (2, 409)]
        await queued(service, 2)
        service.threads.release()
        for each, number in ((stream, 3), (other, 9)):
            seq, embeddings = await answer(each)
            assert seq == number
            np.testing.assert_allclose(embeddings, TINY.encode(TINY.rows(1, seed=number)), atol=1e-5)


async def test_a_frame_past_its_deadline_is_refused_and_never_computed(port: int, service: Service) -> None:
    assert service.threads.acquire(lambda: None)
    async with opened(port, X_Request_Timeout_Ms="20") as stream:
        await stream.send(frame(5))
        assert await answer(stream) == (5, 504)
    service.threads.release()
    assert b'jepa_infer_rows_total{graph="target_encoder",model="tiny"} 0.0' in service.telemetry.text()


async def test_frames_and_streams_are_counted_and_logged(
    port: int, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "app.access"):
        async with opened(port, X_Request_Id="game") as stream:
            for content in (frame(1), frame(2), message(3, np.zeros(1))):
                await stream.send(content)
                await answer(stream)
            text = service.telemetry.text().decode()
    assert 'jepa_http_requests_total{method="WS",route="/stream",status="200"} 2.0' in text
    assert 'jepa_http_requests_total{method="WS",route="/stream",status="422"} 1.0' in text
    assert 'jepa_http_requests_total{method="GET",route="/stream",status="101"} 1.0' in text
    assert 'jepa_requests_rejected_total{reason="invalid_input"} 1.0' in text
    assert "jepa_streams 1.0" in text
    assert "jepa_http_connections 1.0" in text
    lines = [json.loads(Json().format(record)) for record in caplog.records if record.name == "app.access"]
    assert [(line["method"], line["request_id"], line["status"]) for line in lines] == [
        ("GET", "game", 101),
        ("WS", "game/1", 200),
        ("WS", "game/2", 200),
        ("WS", "game/3", 422),
    ]
