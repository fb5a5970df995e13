"""How a request is run on the short way. What comes of it, tests/app/server/protocol and test_routes.py prove."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.answer import Answer
from app.api.call import Call, RequestHead
from app.api.native.handler import Handler
from app.main import create_app
from app.settings import Settings

pytestmark = pytest.mark.anyio
ANSWER = Answer(200, b"", b"")


@pytest.fixture
def handler(models: Path) -> Iterator[Handler]:
    state = create_app(Settings(models=models)).state
    state.service.open()
    yield state.handlers.by_path[b"/embed"]
    state.service.close()


@pytest.fixture
def written() -> list[Answer]:
    return []


@pytest.fixture
def call(handler: Handler, written: list[Answer]) -> Call:
    return Call(handler, RequestHead("/embed", {}), handler.metrics, lambda _, answer: written.append(answer))


def waiting_for(future: "asyncio.Future[Answer]", handler: Handler) -> None:
    async def answer(*_: object) -> Answer:
        return await future

    handler.answer = answer  # type: ignore[method-assign, assignment]


def statuses(handler: Handler) -> set[str]:
    text = handler.service.telemetry.text().decode()
    return {line.partition('status="')[2][:3] for line in text.splitlines() if 'route="/embed",status=' in line}


async def test_what_needs_no_wait_is_answered_at_once(handler: Handler, call: Call, written: list[Answer]) -> None:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    future.set_result(ANSWER)
    waiting_for(future, handler)
    call.start(b"")
    assert written == [ANSWER]


@pytest.mark.parametrize("has_its_answer", [False, True])
async def test_nothing_is_written_to_a_client_that_left(
    handler: Handler, call: Call, written: list[Answer], has_its_answer: bool
) -> None:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    waiting_for(future, handler)
    call.start(b"")
    if has_its_answer:
        # The call goes on in the next turn of the loop.
        future.set_result(ANSWER)
    call.abandon()
    await asyncio.sleep(0)
    assert future.cancelled() is not has_its_answer
    assert written == []
    assert statuses(handler) == {"499"}
