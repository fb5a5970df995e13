"""Whatever answers, a call ends by its deadline, with an answer or a JepaError, in bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from websockets.asyncio.server import ServerConnection, serve

from jepa_client import DeadlineExpired, JepaError, UnexpectedAnswer
from tests.client.test_stream import Open, embed_over, streams  # noqa: F401 (fixtures)
from tests.support import odd_service
from tests.support.odd_service import Behave
from tests.support.relay import Relay, answer

Connect = Callable[..., Any]
Start = Callable[..., tuple[Relay, str]]
ROW = np.zeros(10, np.float32)
DEEP = "[" * 100_000
# Larger than what the sockets in between hold.
MANY_ROWS = np.zeros((1_000_000, 10), np.float32)


@pytest.fixture
def odd(portal: BlockingPortal) -> Iterator[Callable[[Behave], str]]:
    """Starts an odd service and gives its URL."""
    with ExitStack() as stack:
        yield lambda behave: stack.enter_context(portal.wrap_async_context_manager(odd_service.odd_service(behave)))


@pytest.mark.parametrize(
    "behave", [odd_service.drips_a_body, odd_service.drips_a_head, odd_service.goes_on_saying_continue]
)
def test_an_answer_that_never_ends_is_an_expired_deadline(
    behave: Behave, odd: Callable[[Behave], str], connect: Connect
) -> None:
    with pytest.raises(DeadlineExpired) as expired:
        connect(odd(behave), timeout=0.1).embed(ROW)
    assert expired.value.status == 504


def test_a_service_that_reads_slowly_is_given_up_with_the_deadline(
    odd: Callable[[Behave], str], connect: Connect
) -> None:
    received = bytearray()
    whole = asyncio.Event()

    async def reads_slowly(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while part := await reader.read(65536):
            received.extend(part)
            await asyncio.sleep(odd_service.DRIP_S)
        whole.set()

    with pytest.raises(DeadlineExpired):
        connect(odd(reads_slowly), timeout=0.1).embed(MANY_ROWS)
    assert len(received) < MANY_ROWS.nbytes / 2


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (odd_service.answers_without_end, "answered with more than 67108864 bytes; if it is a jepa-serve, send fewer"),
        (odd_service.answers_compressed, "answered in gzip, which was not asked for"),
    ],
)
def test_what_an_answer_may_hold_is_bounded(
    behave: Behave, message: str, odd: Callable[[Behave], str], connect: Connect
) -> None:
    with pytest.raises(UnexpectedAnswer, match=message):
        connect(odd(behave), timeout=60, retries=0).embed(ROW)


LOSS = '{"loss": 1, "losses": [1], "percentiles": null}'


@pytest.mark.parametrize(
    ("call", "body"),
    [
        *(
            (call, body)
            for call in ("models", "model")
            for body in (
                "[]",
                "5",
                '{"models": 5}',
                '{"models": [{}, {}]}',
                '{"models": [5]}',
                '{"models": null}',
                DEEP,
            )
        ),
        *(
            ("loss", body)
            for body in (
                "{}",
                "null",
                LOSS.replace(": 1,", ": null,"),
                LOSS.replace(": 1,", ': "much",'),
                LOSS.replace("[1]", "[[1]]"),
                LOSS.replace("[1]", "[1, 2]"),
                LOSS.replace("[1]", "[{}]"),
                LOSS.replace("[1]", f"[{10**400}]"),
                LOSS.replace("null", "{}"),
                LOSS.replace("null", "[1, 2]"),
                DEEP,
            )
        ),
        ("model named", "[]"),
        ("model named", DEEP),
        ("embed", ""),
        ("embed", "abc"),
    ],
)
def test_a_document_that_is_no_answer_is_an_unexpected_one(
    call: str, body: str, relay: Start, connect: Connect
) -> None:
    kind = "application/octet-stream" if call == "embed" else "application/json"
    client = connect(relay(None, answer(200, body, Content_Type=kind))[1])
    calls = {
        "models": client.models,
        "model": client.model,
        "model named": lambda: client.model("tiny"),
        "loss": lambda: client.loss(ROW, ROW),
        "embed": lambda: client.embed(ROW),
    }
    with pytest.raises(UnexpectedAnswer):
        calls[call]()


@pytest.mark.parametrize(
    "body",
    [
        *('{"errors": [{"loc": 5}]}', '{"errors": [{"loc": [{}]}]}', '{"errors": [5]}', '{"errors": 5}', "[]", DEEP),
        *('{"type": {}}', '{"type": 5, "detail": [], "title": {}}', '{"detail": {"a": 1}}', "\x00", ""),
    ],
)
def test_a_refusal_without_a_proper_document_is_a_jepa_error(body: str, relay: Start, connect: Connect) -> None:
    with pytest.raises(JepaError) as refused:
        connect(relay(None, answer(422, body, Retry_After="9" * 400))[1]).embed(ROW)
    assert refused.value.status == 422


@pytest.fixture
def odd_stream(portal: BlockingPortal) -> Iterator[Callable[..., str]]:
    """Starts a WebSocket server with that handler, and gives its URL."""
    with ExitStack() as stack:

        def start(handler: Any) -> str:
            return stack.enter_context(portal.wrap_async_context_manager(websocket_server(handler)))

        yield start


@asynccontextmanager
async def websocket_server(handler: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def embedding_for(message: Any) -> bytes:
    """An answer with the number of a frame's message."""
    return bytes(message[:4]) + np.ones(4, "<f4").tobytes()


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"ab", b"\x02\0\0\0", b"\x02\0\0\0abc", "", "text", "[1]", '{"seq": "2", "status": 422}', '{"seq": 2}'),
        *('{"seq": 2, "status": 200}', '{"seq": 2, "status": 9999}', DEEP),
    ],
    ids=lambda message: repr(message[:20]),
)
def test_after_a_message_that_answers_no_frame_the_next_frame_is_answered(
    message: str | bytes,
    odd_stream: Callable[..., str],
    embed_over: Open,  # noqa: F811
) -> None:
    connections = 0

    async def one_odd_message_a_connection(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await connection.send(embedding_for(await connection.recv()))
        await connection.recv()
        await connection.send(message)

    embed = embed_over(odd_stream(one_odd_message_a_connection))
    for _ in range(2):
        assert embed(ROW).shape == (4,)
        with pytest.raises(UnexpectedAnswer, match="that answer no frame, which is no jepa-serve"):
            embed(ROW)
    assert connections == 2


def test_late_answers_without_end_do_not_hold_a_frame_past_its_deadline(
    odd_stream: Callable[..., str],
    embed_over: Open,  # noqa: F811
) -> None:
    async def answers_an_older_frame_for_ever(connection: ServerConnection) -> None:
        older = embedding_for(bytes(4))
        while True:
            await connection.send(older)
            await asyncio.sleep(0)

    embed = embed_over(odd_stream(answers_an_older_frame_for_ever), timeout=0.1)
    with pytest.raises(DeadlineExpired):
        embed(ROW)


def test_a_service_that_stopped_reading_does_not_hold_a_frame_past_its_deadline(
    odd_stream: Callable[..., str],
    embed_over: Open,  # noqa: F811
    portal: BlockingPortal,
) -> None:
    goes_on = asyncio.Event()

    async def reads_the_second_connection(connection: ServerConnection) -> None:
        if goes_on.is_set():
            await connection.send(embedding_for(await connection.recv()))
            await connection.wait_closed()
        else:
            connection.transport.pause_reading()
            await goes_on.wait()
            connection.transport.abort()

    embed = embed_over(odd_stream(reads_the_second_connection), timeout=0.1)
    with pytest.raises(DeadlineExpired):
        embed(MANY_ROWS)
    portal.start_task_soon(goes_on.set)
    assert embed(ROW).shape == (4,)
