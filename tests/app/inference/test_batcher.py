"""Rows of requests share runs, and each request gets its own back."""

import asyncio
import threading
from dataclasses import dataclass
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeadlineExpired, ModelFailed, Superseded
from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.jobs import Ticket
from app.inference.threads import BatchThreads
from app.system.streams import Streams
from tests.app.inference.conftest import busy, inline, threaded, until_queued
from tests.support.fakes import POISON, FakeGraph, RecordingObserver, rows_from

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Plan:
    """A request of the property test: after some turns of the loop it comes, and perhaps goes again."""

    rows: int
    comes: int
    leaves: int | None
    poisoned: bool
    stream: str | None
    deadline_in_s: float | None


plans = st.lists(
    st.builds(
        Plan,
        rows=st.integers(1, 20),
        comes=st.integers(0, 4),
        leaves=st.none() | st.integers(0, 4),
        poisoned=st.sampled_from([False, False, False, True]),
        stream=st.sampled_from([None, None, "a", "b"]),
        deadline_in_s=st.sampled_from([None, 1e6, -1.0]),
    ),
    max_size=12,
)


@given(plans, st.integers(1, 8), st.integers(0, 8), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_every_caller_gets_exactly_its_own_rows(
    requests: list[Plan], max_rows: int, inline_rows: int, count: int
) -> None:
    graph, threads, observer = FakeGraph(), BatchThreads(count), RecordingObserver()

    async def call(batcher: Batcher, number: int, plan: Plan) -> None:
        for _ in range(plan.comes):
            await asyncio.sleep(0)
        rows = rows_from(1000 * number, plan.rows)
        if plan.poisoned:
            rows[-1] = POISON
        deadline = None if plan.deadline_in_s is None else monotonic() + plan.deadline_in_s
        task = asyncio.create_task(batcher.submit(rows, ticket=Ticket(deadline, plan.stream)))
        if plan.leaves is not None:
            for _ in range(plan.leaves):
                await asyncio.sleep(0)
            task.cancel()
        try:
            answer, timing = await task
        except asyncio.CancelledError:
            assert plan.leaves is not None
        except Superseded:
            assert plan.stream is not None
        except DeadlineExpired:
            assert plan.deadline_in_s == -1
            assert not set(rows[:-1, 0].tolist()) & set(graph.rows_seen)
        except ModelFailed:
            assert plan.poisoned
        else:
            assert not plan.poisoned
            assert plan.deadline_in_s != -1
            np.testing.assert_array_equal(answer, FakeGraph.answer_to(rows))
            assert timing.queue_s >= 0
            assert 1 <= timing.batch_rows <= max_rows

    async def all_calls() -> None:
        batcher = Batcher(
            graph.run, BatchLimits(max_rows, inline_rows), threads, Streams(), max_queue_rows=10_000, observer=observer
        )
        await asyncio.gather(*(call(batcher, i, plan) for i, plan in enumerate(requests)))
        assert batcher.queue_rows == 0
        # The queue lives on, with every thread free.
        answer, _ = await batcher.submit(rows_from(7, 30))
        np.testing.assert_array_equal(answer, FakeGraph.answer_to(rows_from(7, 30)))

    try:
        asyncio.run(all_calls())
    finally:
        threads.close()
    assert max(graph.batches) <= max_rows
    assert all(full == (rows == max_rows) for rows, full in observer.runs)


async def test_what_waited_while_the_last_run_was_busy_goes_into_one_run(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    batcher = threaded(graph, threads)
    first = await busy(graph, batcher)
    others = [asyncio.create_task(batcher.submit(rows_from(10 * i, 2))) for i in range(4)]
    await until_queued()
    assert batcher.queue_rows == 8
    graph.release()
    await asyncio.gather(first, *others)
    assert graph.batches == [1, 8]


async def test_a_lone_request_waits_for_no_other(graph: FakeGraph, threads: BatchThreads) -> None:
    await threaded(graph, threads).submit(rows_from(0, 1))
    await inline(graph, threads).submit(rows_from(0, 1))
    assert graph.batches == [1, 1]


async def test_requests_of_one_turn_of_the_loop_share_an_inline_run(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = inline(graph, threads)
    answers = await asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(5)))
    assert graph.batches == [5]
    assert [timing.batch_rows for _, timing in answers] == [5] * 5


async def test_short_runs_stay_on_the_event_loop_and_long_ones_leave_it(threads: BatchThreads) -> None:
    ran_in: list[str] = []

    def run(rows: np.ndarray) -> np.ndarray:
        ran_in.append(threading.current_thread().name)
        return rows

    batcher = Batcher(run, BatchLimits(max_rows=8, inline_rows=2), threads, Streams(), max_queue_rows=100)
    await batcher.submit(rows_from(0, 2))
    await batcher.submit(rows_from(0, 3))
    assert ran_in[0] == threading.current_thread().name
    assert ran_in[1].startswith("batch")


@pytest.mark.parametrize("busy_s", [0.001, 0.003])
@pytest.mark.parametrize(
    ("refuses", "left_s", "is_overloaded"),
    [("never", 0.0, False), ("now", 0.0001, True), ("now", 0.016, True), ("now", 0.033, False), ("before", 0.0, False)],
)
async def test_an_overloaded_loop_that_outlasts_a_run_computes_it_itself(
    refuses: str, left_s: float, is_overloaded: bool, busy_s: float
) -> None:
    now, ran_on = [1.0], set[int]()

    def run(rows: np.ndarray) -> np.ndarray:
        ran_on.add(threading.get_ident())
        return rows

    threads = BatchThreads(2)
    batcher = Batcher(run, BatchLimits(8), threads, Streams(), max_queue_rows=1000, clock=lambda: now[0])
    await asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(2)))
    ran_on.clear()
    batcher.admission.ran(seconds=0.005, rows=5, turnaround_s=0.005)
    if refuses == "before":
        earlier = asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(2)))
        await asyncio.sleep(0)
        assert batcher.admission.refusal(0.0001)
        await earlier
        await asyncio.sleep(0.01)
        ran_on.clear()
    asked = asyncio.gather(*(batcher.submit(rows_from(i, 1)) for i in range(2)))
    await asyncio.sleep(0)
    if refuses == "now":
        # The way to a thread and back takes longer than there is time.
        batcher.admission.turnaround_s = 0.1
        assert batcher.admission.refusal(left_s)
    now[0] += busy_s
    await asked
    # By what runs took lately, this one of two rows takes less than 2 ms. Longer deadlines leave time for a thread.
    assert (ran_on == {threading.get_ident()}) == (is_overloaded and busy_s > 0.002)
    threads.close()


async def test_a_small_request_passes_the_pieces_of_a_large_one(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = threaded(graph, threads, max_rows=4)
    first = await busy(graph, batcher)
    large = asyncio.create_task(batcher.submit(rows_from(0, 12)))
    small = asyncio.create_task(batcher.submit(rows_from(500, 1)))
    await until_queued()
    graph.release()
    await asyncio.gather(first, large, small)
    assert graph.rows_seen.index(500) == 1
    assert graph.batches == [1, 4, 4, 4, 1]


async def test_a_poisoned_request_fails_alone(graph: FakeGraph, threads: BatchThreads) -> None:
    batcher = inline(graph, threads)
    poisoned = rows_from(0, 2)
    poisoned[1] = POISON
    good, bad = await asyncio.gather(batcher.submit(rows_from(5, 2)), batcher.submit(poisoned), return_exceptions=True)
    assert isinstance(bad, ModelFailed)
    assert not isinstance(good, BaseException)
    np.testing.assert_array_equal(good[0], FakeGraph.answer_to(rows_from(5, 2)))


async def test_a_graph_that_loses_rows_is_a_failure_and_no_mixed_up_answer(threads: BatchThreads) -> None:
    batcher = Batcher(lambda rows: rows[:-1], BatchLimits(8, inline_rows=8), threads, Streams(), max_queue_rows=100)
    with pytest.raises(ModelFailed):
        await batcher.submit(rows_from(0, 3))


async def test_queues_that_share_a_thread_take_turns(threads: BatchThreads) -> None:
    graphs = FakeGraph(), FakeGraph()
    batchers = [threaded(graph, threads, max_rows=1) for graph in graphs]
    order: list[int] = []

    async def call(i: int) -> None:
        await batchers[i].submit(rows_from(0, 1))
        order.append(i)

    await asyncio.gather(*(call(i) for i in (0, 0, 0, 1, 1, 1)))
    assert order[1:5] == [0, 1, 0, 1]  # the first took the thread before the other queue was in line


async def test_the_thread_goes_to_the_next_queue_when_the_one_in_line_has_nothing_left(
    graph: FakeGraph, threads: BatchThreads
) -> None:
    other_graph = FakeGraph()
    batcher, leaving, other = (threaded(each, threads) for each in (graph, FakeGraph(), other_graph))
    first = await busy(graph, batcher)
    left = asyncio.create_task(leaving.submit(rows_from(0, 1)))
    await until_queued()
    stays = asyncio.create_task(other.submit(rows_from(0, 1)))
    await until_queued()
    left.cancel()
    await asyncio.wait([left])
    graph.release()
    await asyncio.gather(first, stays)
    assert other_graph.batches == [1]
