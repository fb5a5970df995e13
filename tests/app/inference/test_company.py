"""A run waits for clients that are about to ask again, but not for long, and for nobody else."""

import asyncio

import pytest

from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.company import SOON_S, Company
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
def company(clock: Clock) -> Company:
    return Company(LIMITS, clock)


@pytest.mark.anyio
@pytest.mark.parametrize("back", [4, 3])
async def test_clients_that_one_run_answered_share_the_next_though_they_come_back_one_by_one(
    clock: Clock, graph: FakeGraph, threads: BatchThreads, back: int
) -> None:
    batcher = Batcher(graph.run, LIMITS, threads, Streams(), max_queue_rows=100, clock=clock)

    async def ask_again(number: int) -> None:
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


def test_company_is_awaited_for_half_of_what_a_lone_row_takes(clock: Clock, company: Company) -> None:
    company.left(2)
    company.came(clock())
    since = clock()
    assert company.is_near(since)
    clock.spend(0.9 * PATIENCE_S)
    assert company.is_near(since)
    clock.spend(0.2 * PATIENCE_S)
    assert not company.is_near(since)


def test_who_came_back_is_awaited_no_more(clock: Clock, company: Company) -> None:
    company.left(2)
    for _ in range(2):
        company.came(clock())
    # They came together, so there is one more look; then nobody is missing.
    assert company.is_near(clock())
    assert not company.is_near(clock())


def test_nobody_is_awaited_who_was_answered_alone_or_long_ago(clock: Clock, company: Company) -> None:
    company.left(1)
    company.came(clock())
    assert not company.is_near(clock())
    company.left(5)
    clock.spend(SOON_S)
    company.came(clock())
    assert not company.is_near(clock())


def test_requests_that_come_one_at_a_time_run_at_once(clock: Clock, company: Company) -> None:
    company.came(clock())
    assert not company.is_near(clock())
    company.came(clock())
    assert company.is_unlikely
    company.left(2)
    assert not company.is_unlikely


def test_a_turn_that_took_long_is_not_waited_for_twice(clock: Clock, company: Company) -> None:
    company.came(clock())
    company.came(clock())
    clock.spend(3e-3)
    assert not company.is_near(clock())
