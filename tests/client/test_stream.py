"""Both clients' streams against a real service."""

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from time import sleep
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from websockets.protocol import State

from jepa_client import (
    AsyncJepaClient,
    BodyTooLarge,
    DeadlineExpired,
    InvalidInput,
    JepaClient,
    JepaError,
    NotReady,
    SchemaMismatch,
    ServiceUnreachable,
    Superseded,
    TooManyRows,
    Unauthorized,
    UnexpectedAnswer,
    UnknownModel,
)
from jepa_client.stream import Stream
from tests.client.conftest import Running
from tests.client.test_imports import CLIENT
from tests.support.bundles import TinyModel
from tests.support.relay import CLOSE, Relay, answer

Open = Callable[..., Callable[[Any], np.ndarray]]
Start = Callable[..., tuple[Relay, str]]
KEY = "key-0123456789abcdef"


@pytest.fixture
def streams() -> list[Any]:
    """Those that were opened."""
    return []


@pytest.fixture(params=["sync", "async"])
def embed_over(request: pytest.FixtureRequest, portal: BlockingPortal, streams: list[Any]) -> Iterator[Open]:
    """Opens a stream by either client, and gives its `embed` or what else it was opened for, called alike."""
    with ExitStack() as stack:

        def open_stream(url: str, options: dict[str, Any] | None = None, **client: Any) -> Callable[[Any], np.ndarray]:
            if request.param == "sync":
                stream = stack.enter_context(JepaClient(url, **client).stream(**options or {}))
                streams.append(stream)
                asked: Callable[[Any], np.ndarray] = getattr(stream, (options or {}).get("answer", "embed"))
                return asked
            stream_async = AsyncJepaClient(url, **client).stream(**options or {})
            streams.append(stream_async)
            entered = stack.enter_context(portal.wrap_async_context_manager(stream_async))
            return partial(portal.call, getattr(entered, (options or {}).get("answer", "embed")))

        yield open_stream


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        sleep(0.001)


def queue_rows(running: Running) -> int:
    return running.service.registry.get("tiny").engine.queues.target_encoder.queue_rows


def test_frames_go_in_and_embeddings_come_out_in_the_rank_of_the_rows(
    running: Running, embed_over: Open, tiny: TinyModel
) -> None:
    embed, rows = embed_over(running.url), tiny.rows(3)
    many, one = embed(rows), embed(rows[0].tolist())
    assert many.dtype == np.float32
    assert (many.shape, one.shape) == ((3, 4), (4,))
    np.testing.assert_allclose(many, tiny.encode(rows), atol=1e-5)
    np.testing.assert_allclose(one, many[0], atol=1e-5)


def test_options_hold_for_all_frames(running: Running, embed_over: Open, tiny: TinyModel) -> None:
    embed = embed_over(running.url, {"encoder": "context", "hidden": ["opponent", "stage"], "model": "tiny"})
    for seed in range(2):
        rows = tiny.rows(2, seed)
        blind = rows.copy()
        blind[:, 3:] = np.nan
        np.testing.assert_allclose(embed(rows), tiny.encode(blind, "context"), atol=1e-5)


def test_a_stream_of_forecasts_answers_with_values(running: Running, embed_over: Open, tiny: TinyModel) -> None:
    options = {"answer": "forecast", "heads": ["damage", "speed"], "hidden": ["own"], "novelty": True}
    rows = tiny.rows(2)
    unseen = rows.copy()
    unseen[:, :3] = np.nan
    forecast, values = embed_over(running.url, options), tiny.values(tiny.encode(unseen))
    many, one = forecast(rows), forecast(rows[0])
    assert (many.shape, one.shape) == ((2, 3), (3,))
    np.testing.assert_allclose(many[:, :2], np.stack([values["damage"], values["speed"]], axis=1), rtol=1e-4)
    np.testing.assert_allclose(one, many[0], rtol=1e-3)


@pytest.mark.parametrize("client", [JepaClient, AsyncJepaClient])
def test_a_stream_says_which_options_and_methods_go_with_its_answers(client: Any, portal: BlockingPortal) -> None:
    with pytest.raises(TypeError, match=r"go with forecasts: stream\(answer='forecast'"):
        client().stream(heads=["damage"])
    with pytest.raises(TypeError, match="encoder goes with embeddings"):
        client().stream(answer="forecast", encoder="context")
    with pytest.raises(ValueError, match="answer is 'forcast'; a stream answers with 'embed', 'predict', 'forecast'"):
        client().stream(answer="forcast")
    stream = client().stream(answer="forecast")
    with pytest.raises(TypeError, match=r"was opened for forecast\(…\); for embed"):
        stream.embed([1.0]) if client is JepaClient else portal.call(stream.embed, [1.0])


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((1, 11), InvalidInput, "if number 11 of each row is padding, leave it out"),
        ((9, 10), TooManyRows, "the request has 9 rows, the limit is 8"),
        ((110, 10), BodyTooLarge, r"/stream was closed before this frame was answered \(1009: frame with 4404 bytes"),
    ],
)
def test_a_refused_frame_raises_what_a_call_would_and_the_next_is_answered(
    running: Running, embed_over: Open, tiny: TinyModel, shape: tuple[int, int], error: type[JepaError], message: str
) -> None:
    embed = embed_over(running.url)
    with pytest.raises(error, match=message):
        embed(np.zeros(shape))
    np.testing.assert_allclose(embed(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)


def test_what_is_no_row_is_refused_before_anything_is_sent(running: Running, embed_over: Open) -> None:
    with pytest.raises(TypeError, match="features is of <U1"):
        embed_over(running.url)(["a"])
    with pytest.raises(TypeError, match="hidden is the text 'own'"):
        embed_over(running.url, {"hidden": "own"})


@pytest.mark.parametrize(
    ("options", "client", "error", "status"),
    [
        ({}, {}, Unauthorized, 401),
        ({"model": "chess"}, {"api_key": KEY}, UnknownModel, 404),
        ({}, {"api_key": KEY, "schema_hash": "another"}, SchemaMismatch, 409),
    ],
)
def test_a_stream_that_is_refused_raises_where_it_is_opened(
    serve: Callable[..., Running],
    embed_over: Open,
    tiny: TinyModel,
    options: dict[str, Any],
    client: dict[str, Any],
    error: type[JepaError],
    status: int,
) -> None:
    running = serve(api_keys=KEY)
    with pytest.raises(error) as refused:
        embed_over(running.url, options, **client)
    assert refused.value.status == status
    assert embed_over(running.url, api_key=KEY)(tiny.rows(1)).shape == (1, 4)


def test_where_no_service_answers_a_stream_says_so(embed_over: Open, relay: Start) -> None:
    _, url = relay(None, CLOSE, answer(502, "<html>bad gateway</html>"))
    with pytest.raises(ServiceUnreachable, match=r"no stream opens at ws://127\.0\.0\.1:\d+/stream"):
        embed_over(url)
    with pytest.raises(UnexpectedAnswer, match="502"):
        embed_over(url)
    with pytest.raises(ServiceUnreachable):
        embed_over("http://127.0.0.1:9")


def test_a_stream_that_was_lost_is_opened_anew_for_the_next_frame(
    running: Running, embed_over: Open, streams: list[Any], relay: Start, portal: BlockingPortal, tiny: TinyModel
) -> None:
    def knows_it_is_closed() -> bool:
        (stream,) = streams
        is_sync = isinstance(stream, Stream)
        connection: Any = stream._held.get().connection if is_sync else portal.call(stream._held.get).link.connection
        return bool(connection.state is State.CLOSED)

    before, url = relay(running.port)
    embed = embed_over(url)
    for connections in (1, 2):
        np.testing.assert_allclose(embed(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)
        assert before.connections == connections
        portal.call(before.cut)
        until(knows_it_is_closed)


def test_a_frame_whose_answer_was_lost_is_not_sent_again(
    held: Running, embed_over: Open, relay: Start, portal: BlockingPortal, tiny: TinyModel
) -> None:
    before, url = relay(held.port)
    embed = embed_over(url)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(embed, tiny.rows(1))
        until(lambda: queue_rows(held) == 1)
        portal.call(before.cut)
        with pytest.raises(ServiceUnreachable, match="was closed before this frame was answered"):
            waiting.result()
    assert before.connections == 1
    portal.call(held.service.threads.release)
    np.testing.assert_allclose(embed(tiny.rows(1, seed=1)), tiny.encode(tiny.rows(1, seed=1)), atol=1e-5)


def test_no_answer_in_time_is_an_expired_deadline_and_never_the_answer_to_a_later_frame(
    held: Running, embed_over: Open, portal: BlockingPortal, tiny: TinyModel
) -> None:
    embed = embed_over(held.url, timeout=0.1)
    for seed in range(2):
        with pytest.raises(DeadlineExpired) as expired:
            embed(tiny.rows(1, seed))
        assert expired.value.status == 504
    until(lambda: queue_rows(held) == 0)
    portal.call(held.service.threads.release)
    np.testing.assert_allclose(embed(tiny.rows(1, seed=2)), tiny.encode(tiny.rows(1, seed=2)), atol=1e-5)


def test_while_the_service_drains_a_frame_is_refused(
    serve: Callable[..., Running], embed_over: Open, tiny: TinyModel
) -> None:
    running = serve()
    embed = embed_over(running.url)
    running.service.drain()
    with pytest.raises(NotReady, match="the service is draining"):
        embed(tiny.rows(1))


def test_tasks_share_a_stream_and_the_newest_frame_wins(held: Running, portal: BlockingPortal, tiny: TinyModel) -> None:
    async def play() -> list[Any]:
        async with AsyncJepaClient(held.url).stream() as stream:
            tasks = [asyncio.create_task(stream.embed(tiny.rows(1, seed))) for seed in range(3)]
            while not all(task.done() for task in tasks[:2]):
                await asyncio.sleep(0.001)
            held.service.threads.release()
            return await asyncio.gather(*tasks, return_exceptions=True)

    *older, newest = portal.call(play)
    assert [type(each) for each in older] == [Superseded, Superseded]
    np.testing.assert_allclose(newest, tiny.encode(tiny.rows(1, seed=2)), atol=1e-5)


def test_frames_of_a_stream_are_counted_as_such(
    serve: Callable[..., Running], embed_over: Open, tiny: TinyModel
) -> None:
    running = serve()
    embed = embed_over(running.url)
    for seed in range(3):
        embed(tiny.rows(1, seed))
    metrics = httpx.get(f"{running.url}/metrics").text
    assert 'jepa_http_requests_total{method="WS",route="/stream",status="200"} 3.0' in metrics
    assert 'jepa_http_requests_total{method="POST",route="/embed"' not in metrics


def test_a_stream_without_its_library_says_what_to_install() -> None:
    program = f"import sys; sys.path.insert(0, {str(CLIENT.parent)!r}); sys.modules['websockets'] = None; "
    program += "import jepa_client; jepa_client.JepaClient().stream()"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    extras = tomllib.loads((CLIENT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"install it with: pip install '{extras['stream'][0]}'" in done.stderr
