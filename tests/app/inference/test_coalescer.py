"""A run waits for clients that are about to ask again, but not for long, and for nobody else."""

import asyncio

import pytest

from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.coalescer import SOON_S, Coalescer
from app.inference.threads import BatchThreads
from app.system.streams import Streams
from tests.support.fakes import FakeGraph, rows_from
from tests.support.simulation import Clock

# A lone row takes a fifth of a millisecond, so half of that is waited.
LIMITS = BatchLimits(8, inline_rows=8, measured_s={1: 200e-6})
PATIENCE_S = 100e-6


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def coalescer(clock: Clock) -> Coalescer:
    return Coalescer(LIMITS, clock)


@pytest.mark.anyio
@pytest.mark.parametrize("back", [4, 3])
async def test_clients_that_one_run_answered_share_the_next_though_they_come_back_one_by_one(
    clock: Clock, graph: FakeGraph, threads: BatchThreads, back: int
) -> None:
    batcher = Batcher(graph.run, LIMITS, threads, Streams(), max_queue_rows=100, clock=clock)

    async def ask_again(number: int) -> None:
        # Some turns of the event loop later.
        for _ in range(3 * number):
            await asyncio.sleep(0)
        await batcher.submit(rows_from(number, 1))

    await asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(4)))
    asked = [asyncio.create_task(ask_again(number)) for number in range(back)]
    for _ in range(20):
        await asyncio.sleep(0)
    clock.spend(PATIENCE_S)
    await asyncio.gather(*asked)
    assert graph.batches == [4, back]


def test_clients_are_waited_for_half_as_long_as_a_lone_row_takes(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.answered(2)
    coalescer.arrived(clock())
    since = clock()
    assert coalescer.puts_off(1, since)
    clock.spend(0.9 * PATIENCE_S)
    assert coalescer.puts_off(1, since)
    clock.spend(0.2 * PATIENCE_S)
    assert not coalescer.puts_off(1, since)


def test_who_came_back_is_waited_for_no_more(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.answered(2)
    for _ in range(2):
        coalescer.arrived(clock())
    # They came together, so there is one more look; then nobody is missing.
    assert coalescer.puts_off(1, clock())
    assert not coalescer.puts_off(1, clock())


def test_nobody_is_waited_for_who_was_answered_alone_or_long_ago(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.answered(1)
    coalescer.arrived(clock())
    assert not coalescer.puts_off(1, clock())
    coalescer.answered(5)
    clock.spend(SOON_S)
    coalescer.arrived(clock())
    assert not coalescer.puts_off(1, clock())


def test_requests_that_come_one_at_a_time_run_at_once(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.arrived(clock())
    assert not coalescer.puts_off(1, clock())
    coalescer.arrived(clock())
    assert coalescer.expects_none
    coalescer.answered(2)
    assert not coalescer.expects_none


def test_clients_that_never_came_back_keep_nobody_waiting(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.answered(3)
    clock.spend(SOON_S)
    coalescer.arrived(clock())
    assert not coalescer.puts_off(1, clock())
    coalescer.arrived(clock())
    assert coalescer.expects_none


def test_a_full_run_waits_for_nobody(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.answered(4)
    for _ in range(2):
        coalescer.arrived(clock())
    assert not coalescer.puts_off(LIMITS.max_rows, clock())


def test_a_turn_that_took_long_is_not_waited_for_twice(clock: Clock, coalescer: Coalescer) -> None:
    coalescer.arrived(clock())
    coalescer.arrived(clock())
    clock.spend(3e-3)
    assert not coalescer.puts_off(1, clock())
