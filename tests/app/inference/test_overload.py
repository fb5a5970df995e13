"""The law of overload, on simulated processes: what is in time by arithmetic is answered in time, nearly all of it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.support.simulation import Bot, Costs, Process, crowd, play, rate

# One token a row, and eight. What a refusal costs, relative to an answer, is what `benchmarks.overload` measures.
LIGHT, HEAVY = Costs(row=25e-6, run=200e-6, read=70e-6, write=50e-6, refuse=45e-6), Costs(row=200e-6, run=200e-6)
# Runs of which are too long for the event loop, so that a thread computes them.
HEAVIER = Costs(row=1100e-6, run=300e-6)
# Four rows take as long as a run may.
HEAVIEST = Costs(row=1000e-6, run=2400e-6)


@contextmanager
def process(costs: Costs) -> Iterator[Process]:
    process = Process(costs)
    with closing(process.loop):
        yield process


@pytest.mark.parametrize("costs", [HEAVY, HEAVIER], ids=["on the loop", "on a thread"])
@pytest.mark.parametrize("deadline_ms", [16, 33, 100])
@pytest.mark.parametrize("times", [1.25, 2, 4])
def test_bots_with_deadlines_get_most_of_what_can_be_in_time(times: float, deadline_ms: int, costs: Costs) -> None:
    with process(costs) as service:
        bots = crowd(service, times, timeout_s=deadline_ms / 1e3)
        play(service, bots, 0.6)
        assert rate(bots, 0.2, 0.6) >= 0.8 * service.most_in_time(times)


@pytest.mark.parametrize("times", [1.25, 2])
def test_rows_that_cost_less_than_their_requests_are_in_time_too(times: float) -> None:
    with process(LIGHT) as service:
        bots = crowd(service, times, timeout_s=0.016)
        play(service, bots, 0.4)
        assert rate(bots, 0.2, 0.4) >= 0.8 * service.most_in_time(times)


@pytest.mark.parametrize("deadline_ms", [100, 300])
@pytest.mark.parametrize("times", [0.8, 1.25, 2, 4])
def test_requests_that_need_several_runs_are_in_time_too(times: float, deadline_ms: int) -> None:
    """Those that wait share the runs, so that each which is let in delays the others."""
    with process(HEAVIEST) as service:
        bots = crowd(service, times, rows=4 * service.max_rows, hz=6.0, timeout_s=deadline_ms / 1e3)
        play(service, bots, 3.0)
        assert rate(bots, 0.5, 3.0) >= 0.8 * service.most_in_time(times, rows=4 * service.max_rows)


@pytest.mark.parametrize("bulk_timeout_s", [None, 1.0])
def test_bots_with_deadlines_get_into_runs_beside_bulk_clients(bulk_timeout_s: float | None) -> None:
    with process(HEAVY) as service:
        bulk = [Bot(service, rows=128, hz=1e3, timeout_s=bulk_timeout_s) for _ in range(4)]
        bots = crowd(service, 0.4, timeout_s=0.033)
        play(service, [*bots, *bulk], 1.0)
        assert rate(bots, 0.2, 1.0) >= 0.9 * 60 * len(bots)
        assert all(rate([client], 0.2, 1.0) > 0 for client in bulk)


def test_nobody_is_refused_below_the_capacity() -> None:
    with process(HEAVY) as service:
        bots = crowd(service, 0.8, timeout_s=0.016)
        play(service, bots, 0.4)
        assert {answer.status for bot in bots for answer in bot.answers} == {200}


def test_a_second_after_a_burst_all_is_as_before() -> None:
    with process(HEAVY) as service:
        bots = crowd(service, 0.7, timeout_s=0.016)
        burst = [Bot(service, begins_s=0.2, phase=i / 1e4, hz=1.0) for i in range(2000)]
        play(service, [*bots, *burst], 1.2)
        before, after = rate(bots, 0.0, 0.2), rate(bots, 1.0, 1.2)
        assert after >= 0.95 * before


@pytest.mark.parametrize("stream", [None, "mine"])
def test_a_bot_beside_bulk_clients_keeps_its_rate(stream: str | None) -> None:
    """Its share is a seventeenth of all rows, and it asks for much less."""
    with process(Costs(row=100e-6, run=200e-6)) as service:
        bulk = [Bot(service, rows=128, hz=1e3) for _ in range(16)]
        bot = Bot(service, stream=stream)
        play(service, [bot, *bulk], 1.0)
        assert rate([bot], 0.2, 1.0) >= 0.8 * 60
        # Nor are the others forgotten.
        assert all(rate([other], 0.2, 1.0) > 0 for other in bulk)


def test_callers_of_more_rows_than_a_run_share_it_alike() -> None:
    with process(Costs()) as service:
        bots = [Bot(service, rows=rows, hz=1e3) for rows in (100, 200, 400)]
        play(service, bots, 1.0)
        shares = [rate([bot], 0.2, 1.0) * bot.rows for bot in bots]
        assert min(shares) >= 0.7 * max(shares)
