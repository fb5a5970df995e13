"""What is sent again and what is not, over real connections that break; and the pauses, without any."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jepa_client import (
    DeadlineExpired,
    InvalidInput,
    JepaError,
    NotReady,
    QueueFull,
    ServiceUnreachable,
    Superseded,
    UnexpectedAnswer,
)
from jepa_client.calls import models
from jepa_client.service import Service
from jepa_client.tries import FIRST_PAUSE_S, Tries
from tests.client.conftest import Running
from tests.support.bundles import TinyModel
from tests.support.relay import CLOSE, RESET, Relay, answer

Connect = Callable[..., Any]
Start = Callable[..., tuple[Relay, str]]
GONE = "http://127.0.0.1:9"  # discard; nobody listens


def refused(status: int, slug: str, **headers: str) -> bytes:
    return answer(status, f'{{"type": "urn:jepa:error:{slug}", "detail": "no"}}', **headers)


def timeouts_ms(relay: Relay) -> list[float]:
    return [float(value) for value in re.findall(r"x-request-timeout-ms: (.*?)\r", "".join(relay.heads))]


@pytest.mark.parametrize(
    "fault",
    [
        CLOSE,
        RESET,
        refused(429, "queue-full", Retry_After="0"),
        refused(503, "not-ready"),
        answer(503, "<h1>a load balancer without a backend</h1>"),
    ],
    ids=["closed", "reset", "queue full", "not ready", "proxy"],
)
def test_what_was_not_computed_is_sent_again_and_answered(
    fault: bytes, running: Running, relay: Start, connect: Connect, tiny: TinyModel
) -> None:
    before, url = relay(running.port, fault, fault)
    rows = tiny.rows(2)
    np.testing.assert_allclose(connect(url).embed(rows), tiny.encode(rows), atol=1e-5)
    assert before.connections == 3
    first, second = timeouts_ms(before)
    assert 5000 >= first > second  # what is left of the default timeout


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refused(409, "superseded"), Superseded),
        (refused(504, "deadline-expired", Retry_After="0"), DeadlineExpired),
        (refused(422, "invalid-input"), InvalidInput),
        (answer(502, "<h1>Bad gateway</h1>"), UnexpectedAnswer),
    ],
    ids=["superseded", "expired", "invalid", "proxy"],
)
def test_what_would_only_be_refused_again_is_sent_once(
    fault: bytes, error: type[JepaError], relay: Start, connect: Connect, tiny: TinyModel
) -> None:
    before, url = relay(None, fault)
    with pytest.raises(error):
        connect(url).embed(tiny.rows(1))
    assert before.connections == 1


def test_tries_end_with_the_last_error(relay: Start, connect: Connect, tiny: TinyModel) -> None:
    before, url = relay(None, *[refused(503, "not-ready")] * 2)
    with pytest.raises(NotReady, match=r"^no$"):
        connect(url, retries=1).embed(tiny.rows(1))
    assert before.connections == 2


def test_no_retries_means_none(relay: Start, connect: Connect, tiny: TinyModel) -> None:
    before, url = relay(None, CLOSE)
    with pytest.raises(ServiceUnreachable):
        connect(url, retries=0).embed(tiny.rows(1))
    assert before.connections == 1


def test_a_frame_of_a_stream_is_sent_once(relay: Start, connect: Connect, tiny: TinyModel) -> None:
    before, url = relay(None, RESET)
    with pytest.raises(ServiceUnreachable):
        connect(url, stream="bot 1", retries=2).embed(tiny.rows(1))
    assert before.connections == 1


def test_ready_is_asked_once(relay: Start, connect: Connect) -> None:
    before, url = relay(None, refused(503, "not-ready", Retry_After="0"))
    assert not connect(url).ready()
    assert before.connections == 1


def test_a_time_to_come_back_that_is_past_the_deadline_is_not_waited_for(
    relay: Start, connect: Connect, tiny: TinyModel
) -> None:
    before, url = relay(None, refused(429, "queue-full", Retry_After="60"))
    with pytest.raises(QueueFull) as full:
        connect(url).embed(tiny.rows(1))
    assert full.value.retry_after == 60
    assert before.connections == 1


def test_nobody_there_is_an_error_that_names_the_url(connect: Connect, tiny: TinyModel) -> None:
    client = connect(GONE)
    with pytest.raises(ServiceUnreachable, match=f"no service answers at {GONE}: ") as gone:
        client.embed(tiny.rows(1))
    assert gone.value.status is None
    assert not client.ready()


def tries(**options: Any) -> Tries[Any]:
    given = {"timeout": 60.0, "api_key": None, "schema_hash": None, "stream": None, "retries": 3, **options}
    return Tries(Service(GONE, **given), models())


def test_pauses_grow_and_bots_that_were_refused_together_come_back_apart() -> None:
    full = QueueFull("full", status=429, retry_after=1.0)
    firsts, lasts = set(), set()
    for _ in range(50):
        each = tries()
        first, _, last = (each.pause(full) for _ in range(3))
        firsts.add(first)
        lasts.add(last)
        with pytest.raises(QueueFull):
            each.pause(full)
    assert len(firsts) == 50
    assert all(1 <= pause <= 1 + FIRST_PAUSE_S for pause in firsts)
    assert 1 + FIRST_PAUSE_S < max(lasts) <= 1 + 4 * FIRST_PAUSE_S


def test_nothing_is_sent_past_the_deadline() -> None:
    late = tries(timeout=1e-9)
    with pytest.raises(DeadlineExpired, match=f"/models of {GONE} did not answer within 1e-06 ms") as expired:
        late.request()
    assert expired.value.status == 504
