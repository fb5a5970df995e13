"""Both clients and their streams with the player's own inputs, and bots that play at a delay: a real service."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import BlockingPortal

from jepa_client import AsyncJepaClient, Delay, InvalidInput, JepaClient
from jepa_client.inputs import to_inputs
from tests.client.conftest import Running, services
from tests.support.acting import ACTING, inputs, predicted, values

Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def running(acting_models: Path, portal: BlockingPortal) -> Iterator[Running]:
    with services(acting_models, portal) as start:
        yield start(max_rows=8)


@pytest.fixture(params=["sync", "async"])
def stream(running: Running, portal: BlockingPortal, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens a stream by either client, and gives its method that answers, called alike."""
    with ExitStack() as stack:

        def open_stream(**options: Any) -> Callable[..., Any]:
            if request.param == "sync":
                opened: Any = stack.enter_context(JepaClient(running.url).stream(**options))
                return getattr(opened, options["answer"])  # type: ignore[no-any-return]
            opened = stack.enter_context(
                portal.wrap_async_context_manager(AsyncJepaClient(running.url).stream(**options))
            )
            method = getattr(opened, options["answer"])
            return lambda *args, **named: portal.call(partial(method, *args, **named))

        yield open_stream


def listed(actions: np.ndarray) -> Any:
    """As lists, with None where a number or an input is not known."""
    if actions.ndim > 1:
        return [listed(each) for each in actions]
    return None if np.isnan(actions).all() else [None if np.isnan(each) else float(each) for each in actions]


@pytest.mark.parametrize("written", [np.asarray, listed])
def test_answers_have_the_rank_of_rows_and_candidates(
    running: Running, connect: Connect, written: Callable[[Any], Any]
) -> None:
    client, rows = connect(running.url), ACTING.rows(3)
    each, many = inputs(3, 2), inputs(5, 4, seed=1)
    found = client.predict(rows, horizon=15, actions=written(each))
    np.testing.assert_allclose(found, predicted(rows, each), atol=1e-5)
    one = client.predict(rows[0], horizon=15, actions=written(each[0]))
    np.testing.assert_allclose(one, found[0], atol=1e-5)
    assert client.predict(rows[:1], horizon=15, actions=written(each[0])).shape == (1, 4)
    expected = predicted(rows[:1], many)
    for row in (rows[0], rows[:1]):
        np.testing.assert_allclose(client.predict(row, horizon=15, actions=written(many)), expected, atol=1e-5)
    context = ACTING.encode(rows, "context")
    from_context = client.predict(context=context[0], horizon=15, actions=written(many))
    np.testing.assert_allclose(from_context, expected, atol=1e-5)
    assert client.predict(rows[0], horizon=15, actions=written(many[:1])).shape == (1, 4)


def test_forecasts_take_them_as_well(running: Running, connect: Connect) -> None:
    client, row, many = connect(running.url), ACTING.rows(1), inputs(5, 4)
    found = client.forecast(row[0], horizon=15, actions=many, novelty=True)
    np.testing.assert_allclose(found.values, values(predicted(row, many)), rtol=1e-4)
    assert found.novelty.shape == (5,)
    one = client.forecast(row[0], horizon=15, actions=many[0])
    np.testing.assert_allclose(one.values, found.values[0], rtol=1e-4)
    assert one.values.ndim == 1


def test_streams_answer_each_frame_with_its_inputs(stream: Callable[..., Any]) -> None:
    row, many = ACTING.rows(1), inputs(3, 4)
    predict = stream(answer="predict", horizon=15, actions=4)
    np.testing.assert_allclose(predict(row[0], actions=many[0]), predicted(row, many[:1])[0], atol=1e-5)
    # Of fewer frames than it was opened for, the later inputs are not known.
    np.testing.assert_allclose(predict(row[0], actions=many[0, :2]), predicted(row, many[:1, :2])[0], atol=1e-5)
    with pytest.raises(
        ValueError, match="each frame of this stream comes with actions=4, and this one with no actions"
    ):
        predict(row[0])
    with pytest.raises(ValueError, match="actions=4, and this one with actions=4 and candidates=3"):
        predict(row[0], actions=many)
    with pytest.raises(ValueError, match="actions has 5 inputs; this stream was opened for actions=4"):
        predict(row[0], actions=inputs(1, 5)[0])
    with pytest.raises(ValueError, match="this stream was opened with horizon=15; open one with stream"):
        predict(row[0], actions=many[0], horizon=6)
    candidates = stream(answer="predict", horizon=15, actions=4, candidates=3)
    np.testing.assert_allclose(candidates(row[0], actions=many), predicted(row, many), atol=1e-5)
    forecast = stream(answer="forecast", horizon=15, actions=4, heads=["speed"])
    speed = values(predicted(row, many[:1]), outputs=["speed"])[0]
    np.testing.assert_allclose(forecast(row[0], actions=many[0]), speed, rtol=1e-4)
    plain = stream(answer="predict", horizon=15, targets=["own"], hidden=["stage"])
    assert plain(row).shape == (1, 4)
    with pytest.raises(ValueError, match="comes with no actions, and this one with actions=1"):
        plain(row[0], actions=[[1, 0, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "embed", "actions": 4}, "horizon, actions and candidates go with later frames"),
        ({"answer": "predict", "heads": ["speed"]}, "heads and novelty go with forecasts"),
        ({"answer": "predict", "encoder": "context"}, "encoder goes with embeddings"),
        ({"answer": "forecast", "targets": ["own"]}, "targets go with predictions"),
    ],
)
def test_a_stream_is_opened_with_what_goes_with_its_answers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        JepaClient().stream(**options)


@pytest.mark.parametrize(
    ("rows", "actions", "error", "message"),
    [
        ((10,), np.zeros(3), ValueError, r"actions has shape \(3,\); send \[n, A\] or, for N candidates, \[N, n, A\]"),
        ((3, 10), np.zeros((2, 3)), ValueError, r"actions has shape \(2, 3\); send \[3, n, A\], an input of A numbers"),
        (
            (3, 10),
            np.zeros((2, 4, 3)),
            ValueError,
            r"shape \(2, 4, 3\) beside 3 rows; send \[3, n, A\], or one row for",
        ),
        ((10,), [], ValueError, r"actions has shape \(0,\)"),
        ((10,), [[1, 2], [1]], ValueError, "actions is no array .*; all inputs must have the same length"),
        ((10,), [None, None], ValueError, "actions holds nothing that is known; leave it out"),
        (
            (10,),
            [["a", "b"]],
            TypeError,
            "actions is of <U1; an input is real numbers, and None or NaN where it is not",
        ),
        ((10,), [[None, "b"]], TypeError, "an input is real numbers"),
        ((10,), [[1j]], TypeError, "actions is of complex128"),
    ],
)
def test_wrong_shapes_are_refused_before_anything_is_sent(
    rows: tuple[int, ...], actions: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        JepaClient("http://127.0.0.1:1", retries=0).predict(np.zeros(rows), horizon=15, actions=actions)


def test_what_is_none_becomes_nan() -> None:
    row = np.zeros(3, np.float32)
    for given in ([None, [1, None]], [[None, None], (1, None)], [np.array([np.nan, np.nan]), np.array([True, None])]):
        np.testing.assert_array_equal(to_inputs(given, row), [[np.nan, np.nan], [1, np.nan]])
    masked = np.ma.array([[7, 7], [1, 7]], mask=[[True, True], [False, True]])
    np.testing.assert_array_equal(to_inputs(masked, row), [[np.nan, np.nan], [1, np.nan]])
    found = to_inputs([[None, [1, 2]], [[3, None], None]], row)
    nan = np.nan
    np.testing.assert_array_equal(found, [[[nan, nan], [1, 2]], [[3, nan], [nan, nan]]])


def test_the_service_names_what_is_wrong_with_an_input(running: Running, connect: Connect) -> None:
    with pytest.raises(InvalidInput, match="actions has 5 inputs, model 'tiny' takes those of 1 to 4 frames"):
        connect(running.url).predict(ACTING.rows(1)[0], horizon=15, actions=np.zeros((5, 3)))


# Bots that play at a delay

DELAY = 4
IDLE = np.array([0, 0.5, 0.5], np.float32)


class Game:
    """A game whose frames have rows of their own, in which an input acts DELAY frames after it was sent."""

    def __init__(self) -> None:
        # The input that acts on each frame.
        self.acting = [IDLE] * DELAY

    def row(self, frame: int) -> np.ndarray:
        return np.asarray(ACTING.rows(1, seed=frame)[0])

    def right(self, frame: int) -> np.ndarray:
        """What is predicted for the frame on which the next input will act, given those that really act before."""
        between = np.stack(self.acting[frame : frame + DELAY])
        return np.asarray(predicted(self.row(frame)[None], between[None], DELAY)[0])


def play(delay: Any, answer: Callable[[Any], Any], frames: int = 12) -> None:
    game, rng = Game(), np.random.default_rng(0)
    for frame in range(frames):
        np.testing.assert_allclose(answer(delay.embed(game.row(frame))), game.right(frame), atol=1e-5)
        chosen = rng.normal(size=3).astype(np.float32)
        delay.press(chosen)
        game.acting.append(chosen)


def test_a_bot_gets_the_frame_on_which_its_next_input_acts(running: Running) -> None:
    with JepaClient(running.url) as client:
        delay = Delay(client, frames=DELAY, idle=IDLE)
        for _ in range(2):
            play(delay, lambda ahead: ahead)
            delay.reset()
        with client.stream(answer="predict", horizon=DELAY, actions=DELAY) as stream:
            play(Delay(stream, frames=DELAY, idle=IDLE), lambda ahead: ahead)


def test_with_asyncio_it_gets_what_to_await(running: Running, portal: BlockingPortal) -> None:
    with portal.wrap_async_context_manager(AsyncJepaClient(running.url)) as client:
        # The client lives in the loop of another thread.
        play(Delay(client, frames=DELAY, idle=IDLE), lambda ahead: portal.call(lambda: ahead))
        stream = client.stream(answer="predict", horizon=DELAY, actions=DELAY)
        with portal.wrap_async_context_manager(stream):
            play(Delay(stream, frames=DELAY, idle=IDLE), lambda ahead: portal.call(lambda: ahead))


def test_what_was_not_sent_or_not_told_is_not_known(running: Running) -> None:
    row = ACTING.rows(1)
    with JepaClient(running.url) as client:
        delay = Delay(client, frames=DELAY)
        assert delay.in_flight is None
        np.testing.assert_allclose(delay.embed(row[0]), predicted(row, None, DELAY)[0], atol=1e-5)
        delay.press([1, 0, None])
        np.testing.assert_array_equal(delay.in_flight, [[np.nan] * 3] * 3 + [[1, 0, np.nan]])
        delay.embed(row[0])
        # Nothing was sent for that frame.
        delay.embed(row[0])
        np.testing.assert_array_equal(delay.in_flight, [[np.nan] * 3] * 2 + [[1, 0, np.nan], [np.nan] * 3])
        delay.press([2, 0, 0])
        delay.press([3, 0, 0])
        sent = np.array([[[np.nan] * 3, [1, 0, np.nan], [np.nan] * 3, [3, 0, 0]]], np.float32)
        np.testing.assert_array_equal(delay.in_flight, sent[0])
        np.testing.assert_allclose(delay.embed(row[0]), predicted(row, sent, DELAY)[0], atol=1e-5)
        delay.reset()
        assert delay.in_flight is None


def test_an_input_of_another_width_is_refused_where_it_is_told(running: Running) -> None:
    row = ACTING.rows(1)
    with JepaClient(running.url) as client:
        delay = Delay(client, frames=DELAY, idle=IDLE)
        delay.embed(row[0])
        delay.press([1, 0, 0])
        with pytest.raises(ValueError, match=r"this input has 2 numbers, those in flight have 3; .* call reset\(\)"):
            delay.press([1, 0])
        sent = np.stack([IDLE] * (DELAY - 1) + [np.array([1, 0, 0], np.float32)])[None]
        np.testing.assert_allclose(delay.embed(row[0]), predicted(row, sent, DELAY)[0], atol=1e-5)


def test_games_side_by_side_are_asked_about_in_one_call(running: Running) -> None:
    rows, delays = ACTING.rows(3), [Delay(JepaClient(running.url), frames=DELAY, idle=IDLE) for _ in range(3)]
    for i, delay in enumerate(delays):
        delay.press(IDLE + i)
    actions = np.stack([np.asarray(delay.in_flight) for delay in delays])
    with JepaClient(running.url) as client:
        found = client.predict(rows, horizon=DELAY, actions=actions)
    np.testing.assert_allclose(found, predicted(rows, actions, DELAY), atol=1e-5)


def test_a_delay_that_the_model_does_not_know_is_named(running: Running) -> None:
    with JepaClient(running.url) as client, pytest.raises(InvalidInput, match=r"horizon 5 is none .* the nearest is 4"):
        Delay(client, frames=5).embed(ACTING.rows(1)[0])
    with pytest.raises(ValueError, match="frames is 0; a delay is at least one frame, and without one use embed"):
        Delay(client, frames=0)
    with pytest.raises(ValueError, match=r"an input has shape \(2, 3\); send one at a time, \[A\]"):
        Delay(client, frames=4).press(np.zeros((2, 3)))
